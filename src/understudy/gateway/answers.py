"""What is read on the side of an answer that goes through untouched: its usage, its text."""

import json
from typing import Any, TypeGuard

from understudy.data.formats import BadRow, NotWanted
from understudy.services.base import Usage
from understudy.services.providers import log
from understudy.services.providers.log import LoggedExchange, Values
from understudy.services.providers.openai.log import CHAT

DONE = b"[DONE]"  # what ends a stream of OpenAI's; a client reads no further
_TAIL = 1 << 16  # bytes; the usage stands in one of the last events


def usage_of(content: bytes, is_stream: bool) -> Usage | None:
    """The tokens that an answer says it took; None where it does not say."""
    if not is_stream:
        return _usage(_loaded(content))
    lines = reversed(content[-_TAIL:].split(b"\n"))
    events = (_loaded(x[5:]) for x in lines if x.startswith(b"data:") and b'"usage"' in x)
    return next((found for event in events if (found := _usage(event)) is not None), None)


def is_end(lines: bytes) -> bool:
    """Whether a stream ends in these whole lines; an answer may speak of [DONE] as well."""
    return DONE in lines and any(
        line.startswith(b"data:") and line[5:].strip() == DONE for line in lines.split(b"\n")
    )


def exchange(request: Values, content: bytes, is_stream: bool) -> LoggedExchange | None:
    """The conversation with its answer as texts; None when it is no text, cut off or refused."""
    response: Any = content.decode("utf-8", "replace") if is_stream else _loaded(content)
    try:
        part = log.unwrap({"request": request, "response": response}, CHAT)
        return log.join([(part, CHAT)])
    except (NotWanted, BadRow):
        return None


def one_line(content: bytes) -> bytes | None:
    """A JSON object as it is, on one line; None when it is none. No text of it holds a newline."""
    if not isinstance(_loaded(content), dict):
        return None
    return content.replace(b"\r", b" ").replace(b"\n", b" ")


def dumps(values: Values) -> bytes:
    """Compact JSON; half a surrogate pair stays an escape."""
    return json.dumps(values, separators=(",", ":")).encode()


def _loaded(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def _usage(body: Any) -> Usage | None:
    counts = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(counts, dict) or not _is_count(heard := counts.get("prompt_tokens")):
        return None
    said = counts.get("completion_tokens")
    cached = _detail(counts, "prompt_tokens_details", "cached_tokens")
    return Usage(
        input=heard,
        cached=min(cached, heard),
        output=said if _is_count(said) else 0,
        reasoning=_detail(counts, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(counts: dict[str, Any], group: str, name: str) -> int:
    details = counts.get(group)
    found = details.get(name) if isinstance(details, dict) else None
    return found if _is_count(found) else 0


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
