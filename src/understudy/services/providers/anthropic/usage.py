"""What Anthropic's counts of tokens mean."""

from typing import Any

from understudy.services.base import Usage


def usage_of(counts: dict[str, Any] | None) -> Usage | None:
    """`input_tokens` leaves out what was written to or read from the cache."""
    if not counts or "input_tokens" not in counts:
        return None
    cached = counts.get("cache_read_input_tokens") or 0
    written = counts.get("cache_creation_input_tokens") or 0
    return Usage(
        input=counts["input_tokens"] + cached + written,
        cached=cached,
        output=counts.get("output_tokens") or 0,
        reasoning=(counts.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        written=written,
    )
