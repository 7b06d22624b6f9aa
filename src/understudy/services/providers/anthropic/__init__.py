"""Anthropic."""

from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(
    base_url="https://api.anthropic.com",
    rehearsal_path="/anthropic",
    efforts=("none", "low", "medium", "high", "xhigh", "max"),
    takes_budget=True,
    has_batches=True,
    extra="anthropic",
)
