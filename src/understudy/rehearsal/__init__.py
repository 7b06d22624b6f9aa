"""The rehearsal: a loopback server that plays OpenAI, Anthropic and Google, faults included.

It speaks their wire protocols and batch endpoints, answers with the offline provider's text, counts
tokens with the tiny model's tokenizer, enforces limits per minute, and bills. Base URLs:
`URL/openai/v1`, `URL/anthropic`, `URL/google`; the bill is `GET URL/rehearsal/bill`. Every response
carries the header `x-understudy-rehearsal: 1`.
"""

from understudy.service.rehearsal.bill import Bill, Charge
from understudy.service.rehearsal.desk import Settings
from understudy.service.rehearsal.server import RehearsalServer

__all__ = ["Bill", "Charge", "RehearsalServer", "Settings"]
