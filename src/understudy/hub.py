"""Whether the model hub answers: asked once, for two seconds, before its libraries retry."""

import urllib.error
import urllib.request
from functools import lru_cache

_PROBE_S = 2.0  # an unknown name costs 23 to 47 s of the hub client's retries otherwise


@lru_cache
def answers(url: str) -> bool:
    """Whether a server is there at all; an error page is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
