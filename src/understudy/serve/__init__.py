"""An OpenAI-compatible server of an exported model."""
