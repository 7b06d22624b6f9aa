"""OpenAI chat completions, also as served by others: requests, responses, chunks.

Source: the OpenAPI description of POST /v1/chat/completions (objects `chat.completion` and
`chat.completion.chunk`; platform.openai.com/docs/api-reference/chat). Of several choices the
first (index 0) is taken.
"""

from typing import Any

from understudy.collect import exchange
from understudy.collect.exchange import Answer, Maker, Values, listed, mapping
from understudy.data.formats import BadRow, NotWanted
from understudy.records import Message

_ENDS = {
    **{"length": exchange.CUT_OFF, "content_filter": exchange.REFUSED},
    **{"tool_calls": exchange.TOOL_ANSWER, "function_call": exchange.TOOL_ANSWER},
}


def asks(body: Values) -> bool:
    """Whether this is a request."""
    return isinstance(body.get("messages"), list)


def answers(body: Values) -> bool:
    """Whether this is a response or a chunk of one."""
    return isinstance(body.get("choices"), list)


def ended(bodies: list[Values]) -> bool:
    """Whether nothing is missing at the end of a stream; a response is always whole."""
    return not _is_stream(bodies) or any(choice.get("finish_reason") for choice in _first(bodies))


def prompt(body: Values) -> list[Message]:
    """The turns of a request."""
    return exchange.turns(body.get("messages"))


def answer(bodies: list[Values]) -> Answer:
    """The text of a response, or of the deltas of a stream."""
    choices, is_stream = _first(bodies), _is_stream(bodies)
    if not choices:
        raise BadRow("has no choice of index 0")
    if len(choices) > 1 and not is_stream:
        raise NotWanted(exchange.SEVERAL)
    ends, said = list[str](), list[str]()
    for choice in choices:
        part = mapping(choice.get("delta" if is_stream else "message") or {}, "a choice")
        if part.get("tool_calls") or part.get("function_call"):
            raise NotWanted(exchange.TOOL_ANSWER)
        if part.get("refusal"):
            raise NotWanted(exchange.REFUSED)
        if part.get("audio"):
            raise NotWanted(exchange.NOT_TEXT)
        said.append(exchange.text(part.get("content")))
        if choice.get("finish_reason"):
            ends.append(str(choice["finish_reason"]))
    if is_stream and not ends:
        raise NotWanted(exchange.NO_END)
    if ends and (why := _ENDS.get(ends[-1])):
        raise NotWanted(why)
    return Answer("".join(said), _model(bodies))


def _is_stream(bodies: list[Values]) -> bool:
    return any(
        isinstance(choice, dict) and "delta" in choice
        for body in bodies
        for choice in body.get("choices") or ()
    )


def _first(bodies: list[Values]) -> list[Values]:
    """Choice 0 of every body; the chunk with the usage has none."""
    found = (
        mapping(choice, "a choice")
        for body in bodies
        for choice in listed(body.get("choices"), "choices")
    )
    return [choice for choice in found if choice.get("index", 0) == 0]


def _model(bodies: list[Values]) -> str | None:
    models: list[Any] = [body.get("model") for body in bodies]
    return next((model for model in models if isinstance(model, str)), None)


MAKER = Maker("openai-chat", None, asks, answers, ended, prompt, answer)
