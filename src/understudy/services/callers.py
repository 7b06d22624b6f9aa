"""Who may call a server of this program, and how: names, origins, keys and content types.

The gateway and `understudy serve` ask here, so that neither is easier to reach than the other.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16  # characters of a key for an address that others can reach
_KEYS = ("x-api-key", "api-key", "x-goog-api-key")  # headers of Anthropic, Azure and Google


class Objection(NamedTuple):
    """Why a request is not answered; `code` as OpenAI's errors have it."""

    status: int
    code: str
    message: str


WRONG_KEY = Objection(401, "invalid_api_key", "The API key of this server is missing or wrong.")


def objection(headers: Mapping[str, str], key: str | None, query: str = "") -> Objection | None:
    """Return what speaks against a request: no key or, where there is none, a foreign name.

    A page of the web can make a browser call 127.0.0.1, also under a name of its own (DNS
    rebinding); then the Host or the Origin is no loopback name.
    """
    if key is not None:
        return None if is_among(key, shown_keys(headers, query)) else WRONG_KEY
    if _host(f"//{headers.get('host', '')}") not in LOOPBACK:
        return Objection(403, "wrong_host", "Without a key only loopback names are answered.")
    if "origin" in headers and _host(headers["origin"]) not in LOOPBACK:
        return Objection(403, "wrong_origin", "Without a key no page of another site is answered.")
    return None


def shown_keys(headers: Mapping[str, str], query: str = "") -> list[str]:
    """Return the keys that a client shows, wherever its maker's SDK puts them."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":  # a browser
        try:
            shown = base64.b64decode(shown, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            shown = ""
    given = [shown, *(headers[name] for name in _KEYS if name in headers)]
    if query:
        given += parse_qs(query).get("key", [])
    return [key.strip() for key in given if key.strip()]


def is_among(key: str, shown: Iterable[str]) -> bool:
    """Return whether a key is shown, in a time that tells nothing of it."""
    return any(hmac.compare_digest(one.encode(), key.encode()) for one in shown)


def is_json(headers: Mapping[str, str]) -> bool:
    """Return whether the body is said to be JSON, which a page cannot send to another site."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json"


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # half a bracket
        return None
