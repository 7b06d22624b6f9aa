"""Who can be asked: services and local models, where they are and what they are called there."""

import re
from dataclasses import dataclass, field
from typing import Any

from understudy.config.service import Service
from understudy.gateway.calls import ChatCall
from understudy.gateway.control import Who
from understudy.services.base import Usage
from understudy.services.providers import usage_reader
from understudy.services.providers.openai import chat
from understudy.services.providers.translation import Translation

_KEY = re.compile(r"(^|&)key=[^&]*")  # in a query of Google's
_MODEL = re.compile(r"(/models/)[^/:?]+(:)")  # in a path of Google's


@dataclass(frozen=True, slots=True)
class Target:
    """A service or a local model that can be asked."""

    who: Who
    url: str
    key: str | None = field(default=None, repr=False)
    passes_key: bool = False  # without one of ours, the client's own goes through
    model: str | None = None  # in place of the one that the client names
    timeout_s: float = 120.0
    translation: Translation | None = None  # None = it speaks OpenAI's protocol
    service: Service | None = None
    name: str = ""  # of one among several services; "" = the one of `gateway.service`
    renames: bool = False  # clients have other names for its model than its maker

    @property
    def label(self) -> str:
        """How logs and the page call it."""
        return f"{self.who} {self.name}" if self.name else self.who

    @property
    def place(self) -> str:
        """What it shares its failures and its likings with: a server, or one service there."""
        return f"{self.name} {self.url}" if self.name else self.url

    def usage_of(self, counts: dict[str, Any]) -> Usage | None:
        """Return the tokens in its counts of them."""
        if self.translation is None or self.service is None:
            return chat.counted(counts)
        return usage_reader(self.service)(counts)

    def speaks(self, call: ChatCall) -> bool:
        """Return whether its protocol is the one in which a call came."""
        native = call.native
        if native is None or self.service is None:
            return False
        return self.service.provider in native.inbound.SPEAKERS

    def model_for(self, call: ChatCall) -> str | None:
        """Return the model to ask in place of the one that the client names; None = that one."""
        if self.renames or call.native is None or self.service is None:
            return self.model
        return None if self.speaks(call) else self.service.model

    def renamed(self, raw: bytes, body: dict[str, Any], path: str) -> tuple[bytes, str]:
        """Return body and path of a request in its own protocol, with its maker's name for it."""
        if not self.renames or self.model is None:
            return raw, path
        if "model" in body and body["model"] != self.model:
            raw = chat.dumps(body | {"model": self.model})
        return raw, _MODEL.sub(rf"\g<1>{self.model}\g<2>", path)


def without_key(query: str, target: Target) -> str:
    """Return a query without the client's key, where the service is not to get that one."""
    return query if target.passes_key else _KEY.sub("", query).strip("&")


def without_keys(text: str, target: Target, call: ChatCall) -> str:
    """Return what a service says without the key that it was sent."""
    sent = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
    for key in (target.key, sent):
        text = text.replace(key, "[key]") if key else text
    return text
