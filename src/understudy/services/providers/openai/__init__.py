"""OpenAI."""

from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(
    base_url="https://api.openai.com/v1",
    rehearsal_path="/openai/v1",
    efforts=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    has_batches=True,
    extra="openai",
)
