"""The offline provider: programs with exact rules that stand in for services."""

from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(is_offline=True)
