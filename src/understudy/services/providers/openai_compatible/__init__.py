"""Every server that speaks OpenAI's protocol: vLLM, Ollama, `understudy serve`, other makers."""

from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(rehearsal_path="/openai/v1", extra="openai")
