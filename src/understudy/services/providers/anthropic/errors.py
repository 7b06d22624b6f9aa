"""Errors in Anthropic's shape (docs.anthropic.com/en/api/errors)."""

from typing import Any

_KINDS = {
    **{400: "invalid_request_error", 401: "authentication_error", 402: "billing_error"},
    **{403: "permission_error", 404: "not_found_error", 413: "request_too_large"},
    **{429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error"},
}


def error(status: int, code: str, message: str) -> dict[str, Any]:
    """Return the body of an error; its kind follows from the status, so `code` is not in it."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
