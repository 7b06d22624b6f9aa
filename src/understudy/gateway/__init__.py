"""One OpenAI-compatible endpoint before a service and a local model.

It records, shadows, moves traffic step by step, and keeps answering when the service fails:
calls → choice (who may answer) → exchange (ask in turn, relay) → upstream → log, spend, numbers.
"""
