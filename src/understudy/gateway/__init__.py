"""One OpenAI-compatible endpoint before a service and a local model.

It records, shadows, moves traffic step by step, and keeps answering when the service fails:
calls → control (who may answer) → relay (ask in turn, pass on) → upstream → log, spend, numbers.
"""
