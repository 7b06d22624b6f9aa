"""Anthropic Messages: requests, responses, and the events of a stream.

Source: POST /v1/messages and its streaming events `message_start`, `content_block_start`,
`content_block_delta`, `message_delta`, `message_stop` (docs.anthropic.com/en/api/messages and
/en/api/messages-streaming). When a request ends with an assistant turn, the response continues it.
"""

from typing import Any

from understudy.data.rejects import NotWanted
from understudy.records import Message
from understudy.services.providers import dialogue, log
from understudy.services.providers.dialogue import listed, mapping
from understudy.services.providers.log import AnswerText, Dialect, Values

_EVENTS = {
    *("message_start", "message_delta", "message_stop", "ping", "error"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
}
_ENDS = {
    **{"max_tokens": log.CUT_OFF, "model_context_window_exceeded": log.CUT_OFF},
    "pause_turn": log.CUT_OFF,
    "refusal": log.REFUSED,
}


def asks(body: Values) -> bool:
    """Whether this is a request, and one that chat completions would not take."""
    named = "system" in body or "anthropic_version" in body
    is_claude = "claude" in str(body.get("model", ""))
    return isinstance(body.get("messages"), list) and (named or is_claude)


def answers(body: Values) -> bool:
    """Whether this is a response or an event of its stream."""
    is_message = body.get("type") == "message" and isinstance(body.get("content"), list)
    return is_message or (isinstance(body.get("type"), str) and body["type"] in _EVENTS)


def ended(bodies: list[Values]) -> bool:
    """Whether the stop, or a whole message, is there."""
    return any(body.get("type") in ("message", "message_stop", "error") for body in bodies)


def prompt(body: Values) -> list[Message]:
    """The system prompt, if any, then the turns."""
    return dialogue.with_system(
        dialogue.text(body.get("system")), dialogue.turns(body.get("messages"))
    )


def answer(bodies: list[Values]) -> AnswerText:
    """The text and the calls of a message, or of its deltas."""
    whole = next((body for body in reversed(bodies) if body.get("type") == "message"), None)
    if any(body.get("type") == "error" for body in bodies):
        raise NotWanted(log.FAILED)
    if whole is None:
        if not ended(bodies):
            raise NotWanted(log.NO_END)
        whole = _assembled(bodies)
    blocks = [mapping(block, "a block") for block in listed(whole.get("content"), "content")]
    if any(
        "tool" in str(block.get("type", "")) and block["type"] != "tool_use" for block in blocks
    ):
        raise NotWanted(dialogue.OWN_TOOLS)
    if why := _ENDS.get(str(whole.get("stop_reason"))):
        raise NotWanted(why)
    found = dialogue.parts(blocks)
    if whole.get("stop_reason") == "tool_use" and not found.calls:
        raise NotWanted(log.TOOL_ANSWER)
    return AnswerText(found.text, dialogue.first_text([whole.get("model")]), tuple(found.calls))


def _assembled(events: list[Values]) -> Values:
    """The message that the events of a stream amount to."""
    message: Values = {}
    blocks: dict[Any, Values] = {}
    for event in events:
        kind, place = event.get("type"), str(event.get("index", 0))
        delta = mapping(event.get("delta") or {}, "a delta")
        if kind == "message_start":
            message.update(mapping(event.get("message") or {}, "a message"))
        elif kind == "content_block_start":
            blocks[place] = dict(mapping(event.get("content_block") or {}, "a block"))
        elif kind == "content_block_delta" and delta.get("type") == "text_delta":
            block = blocks.setdefault(place, {"type": "text", "text": ""})
            block["text"] = dialogue.text(block.get("text")) + dialogue.text(delta.get("text"))
        elif kind == "content_block_delta" and delta.get("type") == "input_json_delta":
            block = blocks.setdefault(place, {"type": "tool_use"})
            before = block["input"] if isinstance(block.get("input"), str) else ""
            block["input"] = before + dialogue.text(delta.get("partial_json"))
        elif kind == "message_delta":
            message["stop_reason"] = delta.get("stop_reason")
    return message | {"content": list(blocks.values())}


DIALECTS = (Dialect("anthropic", "Anthropic", asks, answers, ended, prompt, answer),)
