"""Errors in Google's shape (cloud.google.com/apis/design/errors)."""

import re
from typing import Any

_DELAY = re.compile(rb'"retryDelay"\s*:\s*"(\d+(?:\.\d+)?)s"')  # of google.rpc.RetryInfo
_OF_A_DAY = b"PerDay"  # in the name of a quota that comes back with the next day

_KINDS = {
    **{401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"},
    **{429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 504: "DEADLINE_EXCEEDED"},
}


def error(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of an error; its kind follows from the status, so `code` is not in it."""
    kind = _KINDS.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
    return {"error": {"code": status, "message": message, "status": kind}}


def retry_delay(body: bytes) -> float | None:
    """Return the seconds after which the body of an error says to come again, if it does."""
    found = _DELAY.search(body)
    return None if found is None or _OF_A_DAY in body else float(found[1])
