"""Google's Gemini."""

from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(
    base_url="https://generativelanguage.googleapis.com",
    rehearsal_path="/google",
    efforts=("none", "minimal", "low", "medium", "high", "xhigh"),
    takes_budget=True,
    has_batches=True,
    extra="google",
)
