"""What Gemini's counts of tokens mean."""

from typing import Any

from understudy.services.base import Usage


def usage_of(counts: dict[str, Any] | None) -> Usage | None:
    """Gemini counts thoughts beside the answer; both are billed as output."""
    if not counts or "promptTokenCount" not in counts:
        return None
    thoughts = counts.get("thoughtsTokenCount") or 0
    return Usage(
        input=counts["promptTokenCount"],
        cached=counts.get("cachedContentTokenCount") or 0,
        output=(counts.get("candidatesTokenCount") or 0) + thoughts,
        reasoning=thoughts,
    )
