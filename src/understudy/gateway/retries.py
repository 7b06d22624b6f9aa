"""When a failed call is asked again for a client: only where the maker itself says after how long.

The official SDKs of OpenAI and Anthropic do that by themselves and say so in a header; were the
gateway to do it for them, too, three tries would become nine.
"""

from collections.abc import Mapping

from understudy.gateway.calls import ChatCall
from understudy.services.providers.adapter import retry_after
from understudy.services.providers.google.errors import retry_delay

_MAY_HEAL = (408, 409, 425, 429)
_USED_UP = (b"insufficient_quota", b"billing_hard_limit_reached")
_COUNTS = "x-stainless-retry-count"  # of an SDK that retries


def pause_s(status: int, headers: Mapping[str, str], body: bytes = b"") -> float | None:
    """Return the seconds after which a maker says to come again; None where it says no such thing.

    It says so by Retry-After or retry-after-ms, Google in its body; `x-should-retry: false`
    (of OpenAI and Anthropic) and a quota that is used up say the contrary.
    """
    says = headers.get("x-should-retry")
    if says == "false" or any(mark in body for mark in _USED_UP):
        return None
    if status < 500 and status not in _MAY_HEAL and says != "true":
        return None
    told = retry_after(headers)
    return retry_delay(body) if told is None else told


def retries_itself(call: ChatCall) -> bool:
    """Return whether the client is an SDK that tries again by itself."""
    return _COUNTS in call.headers
