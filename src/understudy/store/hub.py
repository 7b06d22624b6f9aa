"""Whether the model hub answers: asked once, for two seconds, before its libraries retry."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

_PROBE_S = 2.0  # an unknown name costs 23 to 47 s of the hub client's retries otherwise
_is_left_alone = False


@contextmanager
def left_alone() -> Iterator[None]:
    """Ask nothing while the block runs: what works offline."""
    global _is_left_alone
    _is_left_alone = True
    try:
        yield
    finally:
        _is_left_alone = False


def answers(url: str) -> bool:
    """Whether a server is there at all; an error page is an answer."""
    return not _is_left_alone and _probe(url)


@lru_cache
def _probe(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
