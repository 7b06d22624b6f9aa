"""OpenAI's Responses API: requests, responses, and the events of a stream.

Source: the OpenAPI description of POST /v1/responses (object `response`, items `message`,
`reasoning` and `*_call`; events `response.created`, `response.output_text.delta`,
`response.completed`, …; platform.openai.com/docs/api-reference/responses-streaming).
"""

from typing import Any

from understudy.collect import exchange
from understudy.collect.exchange import Answer, Maker, Values, listed, mapping
from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message

_LAST = ("response.completed", "response.incomplete", "response.failed")


def asks(body: Values) -> bool:
    """Whether this is a request; `input` alone would also fit an embedding."""
    is_named = any(name in body for name in ("instructions", "max_output_tokens", "reasoning"))
    return isinstance(body.get("input"), list | str) and (
        is_named or isinstance(body["input"], list) or "model" in body
    )


def answers(body: Values) -> bool:
    """Whether this is a response or an event of its stream."""
    is_response = body.get("object") == "response" and isinstance(body.get("output"), list)
    return is_response or str(body.get("type", "")).startswith("response.")


def ended(bodies: list[Values]) -> bool:
    """Whether the last event, or a whole response, is there."""
    return any(body.get("object") == "response" or body.get("type") in _LAST for body in bodies)


def prompt(body: Values) -> list[Message]:
    """The instructions as system turn, then the input."""
    if body.get("previous_response_id") or body.get("conversation"):
        raise NotWanted(exchange.NO_STATE)
    given, system = body.get("input"), body.get("instructions")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = [mapping(item, "an input item") for item in listed(given, "input")]
    if any(_is_tool(item) for item in items):
        raise NotWanted(exchange.TOOL_PROMPT)
    said = [item for item in items if item.get("type", "message") == "message"]
    return exchange.with_system(system if isinstance(system, str) else "", exchange.turns(said))


def answer(bodies: list[Values]) -> Answer:
    """The output text of a response, else of the deltas in the order of their places."""
    whole = [found for body in bodies if (found := _response(body)) and found.get("output")]
    if not ended(bodies):
        raise NotWanted(exchange.NO_END)
    if whole:
        return _whole(whole[-1])
    if bodies[-1].get("type") == "response.failed":
        raise NotWanted(exchange.FAILED)
    if any("_call" in str(body.get("type")) for body in bodies):
        raise NotWanted(exchange.TOOL_ANSWER)
    deltas: dict[tuple[int, int], str] = {}
    for body in bodies:
        if body.get("type") == "response.output_text.delta":
            place = (_number(body, "output_index"), _number(body, "content_index"))
            deltas[place] = deltas.get(place, "") + exchange.text(body.get("delta"))
    models: list[Any] = [(_response(body) or {}).get("model") for body in bodies]
    model = next((name for name in models if isinstance(name, str)), None)
    return Answer("".join(words for _, words in sorted(deltas.items())), model)


def _whole(body: Values) -> Answer:
    if body.get("error") or body.get("status") in ("failed", "cancelled"):
        raise NotWanted(exchange.FAILED)
    items = [mapping(item, "an output item") for item in listed(body.get("output"), "output")]
    if any(_is_tool(item) for item in items):
        raise NotWanted(exchange.TOOL_ANSWER)
    parts = [
        mapping(part, "a part")
        for item in items
        if item.get("type") == "message"
        for part in listed(item.get("content"), "content")
    ]
    if any(part.get("type") == "refusal" for part in parts):
        raise NotWanted(exchange.REFUSED)
    if body.get("status") == "incomplete":
        why = mapping(body.get("incomplete_details") or {}, "incomplete_details").get("reason")
        raise NotWanted(exchange.REFUSED if why == "content_filter" else exchange.CUT_OFF)
    model = body.get("model")
    return Answer(exchange.text(parts), model if isinstance(model, str) else None)


def _response(body: Values) -> Values | None:
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


MAKER = Maker("openai-responses", "OpenAI", asks, answers, ended, prompt, answer)
