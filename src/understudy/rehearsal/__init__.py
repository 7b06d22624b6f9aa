"""The rehearsal: a loopback server that plays OpenAI, Anthropic and Google, faults included.

It speaks their wire protocols and batch endpoints, answers with the offline provider's text, counts
tokens with the tiny model's tokenizer, enforces limits per minute, and bills. Base URLs:
`URL/openai/v1`, `URL/anthropic`, `URL/google`; the bill is `GET URL/rehearsal/bill`. Every response
carries the header `x-understudy-rehearsal: 1`.
"""
