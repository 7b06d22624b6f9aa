"""Errors in Google's shape (cloud.google.com/apis/design/errors)."""

from typing import Any

_KINDS = {
    **{401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"},
    **{429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 504: "DEADLINE_EXCEEDED"},
}


def error(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of an error; its kind follows from the status, so `code` is not in it."""
    kind = _KINDS.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
    return {"error": {"code": status, "message": message, "status": kind}}
