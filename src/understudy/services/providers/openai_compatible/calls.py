"""The calls are OpenAI's; see there for what few fields differ."""

from understudy.services.providers.openai.calls import connect

__all__ = ["connect"]
