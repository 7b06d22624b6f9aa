"""OpenAI's chat completions, also as served by others, and its Responses API, as logs hold them.

Sources: the OpenAPI descriptions of POST /v1/chat/completions (objects `chat.completion` and
`chat.completion.chunk`; platform.openai.com/docs/api-reference/chat), of whose choices the first
(index 0) is taken, and of POST /v1/responses (object `response`, items `message`, `reasoning` and
`*_call`; events `response.created`, `response.output_text.delta`, `response.completed`, …;
platform.openai.com/docs/api-reference/responses-streaming).
"""

from typing import Any

from understudy.data import tools
from understudy.data.rejects import BadRow, NotWanted
from understudy.records import Message, ToolCall
from understudy.services.providers import dialogue, log
from understudy.services.providers.dialogue import listed, mapping
from understudy.services.providers.log import AnswerText, Dialect, Values

_ENDS = {"length": log.CUT_OFF, "content_filter": log.REFUSED}
_CALLED = ("tool_calls", "function_call")
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")


def chat_asks(body: Values) -> bool:
    """Whether this is a request."""
    return isinstance(body.get("messages"), list)


def chat_answers(body: Values) -> bool:
    """Whether this is a response or a chunk of one."""
    choices = body.get("choices")  # in a quiz they are texts
    return isinstance(choices, list) and not any(isinstance(choice, str) for choice in choices)


def chat_ended(bodies: list[Values]) -> bool:
    """Whether nothing is missing at the end of a stream; a response is always whole."""
    return not _is_stream(bodies) or any(
        choice.get("finish_reason") for choice in _first_choices(bodies)
    )


def chat_prompt(body: Values) -> list[Message]:
    """The turns of a request; a system prompt beside them is no word of OpenAI's, but of others."""
    return dialogue.with_system(
        dialogue.text(body.get("system") or ""), dialogue.turns(body.get("messages"))
    )


def chat_answer(bodies: list[Values]) -> AnswerText:
    """The text and the calls of a response, or of the deltas of a stream."""
    choices, is_stream = _first_choices(bodies), _is_stream(bodies)
    if not choices:
        raise BadRow("has no choice of index 0")
    if len(choices) > 1 and not is_stream:
        raise NotWanted(log.SEVERAL)
    ends, said, called = list[str](), list[str](), list[Values]()
    for choice in choices:
        part = mapping(choice.get("delta" if is_stream else "message") or {}, "a choice")
        called += [part] if dialogue.has_tool_call(part) else []
        if part.get("refusal"):
            raise NotWanted(log.REFUSED)
        if part.get("audio"):
            raise NotWanted(dialogue.NOT_TEXT)
        found = dialogue.parts(part.get("content"))
        said.append(found.text)
        called += [{"tool_calls": found.calls}] if found.calls else []  # as others speak it
        if choice.get("finish_reason"):
            ends.append(str(choice["finish_reason"]))
    if is_stream and not ends:
        raise NotWanted(log.NO_END)
    if ends and (why := _ENDS.get(ends[-1])):
        raise NotWanted(why)
    if ends and ends[-1] in _CALLED and not called:
        raise NotWanted(log.TOOL_ANSWER)
    calls = tools.calls_of(_joined(called) if is_stream else called[0]) if called else ()
    model = dialogue.first_text(body.get("model") for body in bodies)
    return AnswerText("".join(said), model, tuple(calls))


def _joined(deltas: list[Values]) -> Values:
    """The calls of a stream, whose arguments come in pieces; a piece says of which call it is."""
    calls: dict[Any, Values] = {}
    for delta in deltas:
        pieces = listed(delta.get("tool_calls"), "tool_calls")
        if isinstance(delta.get("function_call"), dict):
            pieces = [{"index": 0, "function": delta["function_call"]}]
        for piece in pieces:
            piece = mapping(piece, "a tool call")
            place = piece.get("index", piece.get("id", len(calls)))
            made = calls.setdefault(place, {"id": None, "name": "", "arguments": ""})
            function = mapping(piece.get("function") or piece, "a function")
            made["id"] = made["id"] or piece.get("id")
            made["name"] = made["name"] or function.get("name") or ""
            given = function.get("arguments") or ""
            if isinstance(given, str) and isinstance(made["arguments"], str):
                made["arguments"] += given
            else:
                made["arguments"] = given  # whole, as an object
    return {"tool_calls": list(calls.values())}


def _is_stream(bodies: list[Values]) -> bool:
    return any(
        isinstance(choice, dict) and "delta" in choice
        for body in bodies
        for choice in body.get("choices") or ()
    )


def _first_choices(bodies: list[Values]) -> list[Values]:
    """Choice 0 of every body; the chunk with the usage has none."""
    found = (
        mapping(choice, "a choice")
        for body in bodies
        for choice in listed(body.get("choices"), "choices")
    )
    return [choice for choice in found if choice.get("index", 0) == 0]


CHAT = Dialect("openai-chat", None, chat_asks, chat_answers, chat_ended, chat_prompt, chat_answer)


def responses_asks(body: Values) -> bool:
    """Whether this is a request; `input` alone would also fit an embedding."""
    is_named = any(name in body for name in ("instructions", "max_output_tokens", "reasoning"))
    return isinstance(body.get("input"), list | str) and (
        is_named or isinstance(body["input"], list) or "model" in body
    )


def responses_answers(body: Values) -> bool:
    """Whether this is a response or an event of its stream."""
    is_response = body.get("object") == "response" and isinstance(body.get("output"), list)
    return is_response or str(body.get("type", "")).startswith("response.")


def responses_ended(bodies: list[Values]) -> bool:
    """Whether the last event, or a whole response, is there."""
    return any(
        body.get("object") == "response" or body.get("type") in _LAST_EVENTS for body in bodies
    )


def responses_prompt(body: Values) -> list[Message]:
    """The instructions as system turn, then the input."""
    if body.get("previous_response_id") or body.get("conversation"):
        raise NotWanted(log.NO_STATE)
    given, system = body.get("input"), body.get("instructions")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = [mapping(item, "an input item") for item in listed(given, "input")]
    said = list[Values]()
    for item in items:
        kind = str(item.get("type", "message"))
        if kind == "item_reference":
            raise NotWanted(log.NO_STATE)
        if kind == "function_call_output":
            said.append({"role": "tool", "content": [item]})
        elif kind == "function_call":
            # One turn of the model: its words and all calls that follow them.
            if said and said[-1]["role"] == "assistant":
                said[-1] = said[-1] | {"tool_calls": [*said[-1].get("tool_calls", ()), item]}
            else:
                said.append({"role": "assistant", "content": None, "tool_calls": [item]})
        elif kind == "message":
            said.append(item)
        elif _is_tool(item) or "tool" in kind:
            raise NotWanted(dialogue.OWN_TOOLS)
        elif kind != "reasoning":
            raise NotWanted(dialogue.of_kind(kind))
    return dialogue.with_system(system if isinstance(system, str) else "", dialogue.turns(said))


def responses_answer(bodies: list[Values]) -> AnswerText:
    """The output text of a response, else of the deltas in the order of their places."""
    whole = [
        found
        for body in bodies
        if (found := _response_of(body)) and (found.get("output") or body is found)
    ]
    if not responses_ended(bodies):
        raise NotWanted(log.NO_END)
    if whole:
        return _whole_response(whole[-1])
    if bodies[-1].get("type") == "response.failed":
        raise NotWanted(log.FAILED)
    items = [
        mapping(body.get("item") or {}, "an item")
        for body in bodies
        if body.get("type") == "response.output_item.done"
    ]
    if any("_call" in str(body.get("type")) for body in bodies) and not any(map(_is_tool, items)):
        raise NotWanted(log.TOOL_ANSWER)
    deltas: dict[tuple[int, int], str] = {}
    for body in bodies:
        if body.get("type") == "response.output_text.delta":
            place = (_number(body, "output_index"), _number(body, "content_index"))
            deltas[place] = deltas.get(place, "") + dialogue.text(body.get("delta"))
    model = dialogue.first_text((_response_of(body) or {}).get("model") for body in bodies)
    said = "".join(words for _, words in sorted(deltas.items()))
    return AnswerText(said, model, _calls(items))


def _whole_response(body: Values) -> AnswerText:
    if body.get("error") or body.get("status") in ("failed", "cancelled"):
        raise NotWanted(log.FAILED)
    if body.get("status") in ("queued", "in_progress"):
        raise NotWanted(log.NOT_READY)
    items = [mapping(item, "an output item") for item in listed(body.get("output"), "output")]
    calls = _calls(items)
    parts = [
        mapping(part, "a part")
        for item in items
        if item.get("type") == "message"
        for part in listed(item.get("content"), "content")
    ]
    if any(part.get("type") == "refusal" for part in parts):
        raise NotWanted(log.REFUSED)
    if body.get("status") == "incomplete":
        why = mapping(body.get("incomplete_details") or {}, "incomplete_details").get("reason")
        raise NotWanted(log.REFUSED if why == "content_filter" else log.CUT_OFF)
    return AnswerText(dialogue.text(parts), dialogue.first_text([body.get("model")]), calls)


def _calls(items: list[Values]) -> tuple[ToolCall, ...]:
    """The calls of functions; NotWanted where the service ran a tool of its own."""
    if any(_is_tool(item) and item.get("type") != "function_call" for item in items):
        raise NotWanted(dialogue.OWN_TOOLS)
    return tuple(tools.call(item) for item in items if item.get("type") == "function_call")


def _response_of(body: Values) -> Values | None:
    if body.get("object") == "response":
        return body
    nested = body.get("response")
    return nested if isinstance(nested, dict) else None


def _is_tool(item: Values) -> bool:
    return "_call" in str(item.get("type", ""))  # function_call, function_call_output, mcp_call, …


def _number(body: Values, name: str) -> int:
    if not isinstance(value := body.get(name, 0), int):
        raise BadRow(f"has {name} that is no number")
    return value


RESPONSES = Dialect(
    "openai-responses",
    "OpenAI",
    responses_asks,
    responses_answers,
    responses_ended,
    responses_prompt,
    responses_answer,
)
DIALECTS = (RESPONSES, CHAT)
