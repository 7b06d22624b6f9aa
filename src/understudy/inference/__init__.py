"""Answers to a split's prompts, by the local model or the service."""
