"""The models that the server plays: the offline provider's text, real tokens, shipped prices.

A model of the family openai speaks like `offline`, anthropic like `offline_lenient`, google like
`offline_strict`, with noise of its own (its name seeds it). Facts come from conf/service.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import TypeAdapter
from tokenizers import Tokenizer

from understudy import locations
from understudy.config import Prices, Service
from understudy.rehearsal import faults, tools
from understudy.services.base import Reply, Request, Usage
from understudy.services.providers.offline.calls import Offline
from understudy.services.providers.rehearsal_base import AskedCall, Said

_PERSONAS = {"anthropic": "offline_lenient", "google": "offline_strict"}  # others: offline
_TOKENS_PER_MESSAGE = 4  # role and separators, as chat formats have them
_REASONING_TOKENS = 64  # of a model that is asked to reason


class ModelFacts(NamedTuple):
    """What conf/service says about a model."""

    family: str
    prices: Prices | None
    context: int | None


class Speaker:
    """Answers for any model; `cached` is the share of every prompt that it says was cached."""

    def __init__(self, prices: dict[str, Prices] | None = None, cached: float = 0.0) -> None:
        self._files = read_services()
        self._own_prices = prices or {}
        self._cached = cached
        self._personas: dict[tuple[str, str], Offline] = {}
        path = locations.PACKAGE / "models" / "tiny" / "tokenizer.json"
        self._tokenizer: Any = Tokenizer.from_file(str(path))
        self._count = lru_cache(maxsize=4096)(lambda text: len(self._encode(text).ids))
        self.facts = lru_cache(maxsize=256)(self._facts)

    @property
    def models(self) -> list[str]:
        """The models that conf/service knows."""
        return sorted({str(values.get("model")) for values in self._files.values()})

    def _facts(self, model: str, family: str) -> ModelFacts:
        """The facts about a model; `family` where conf/service does not know it."""
        known = next((s for s in self._files.values() if s.get("model") == model), {})
        prices = self._own_prices.get(model) or _prices(known.get("prices"))
        return ModelFacts(known.get("family", family), prices, known.get("context"))

    def heard(self, asked: AskedCall) -> int:
        """Tokens of the prompt."""
        texts = [message["content"] for message in asked.messages]
        known = self._count(json.dumps(asked.tools)) if asked.tools else 0
        return known + sum(self._count(text) + _TOKENS_PER_MESSAGE for text in texts)

    def answer(self, asked: AskedCall, family: str, index: int) -> Reply:
        """The whole of the `index`-th answer to this prompt."""
        if asked.messages[-1]["role"] == "tool":
            return Reply(f"The tool says: {asked.messages[-1]['content']}", "stop", Usage())
        persona = self._persona(asked.model, self.facts(asked.model, family).family)
        return persona.answer(Request(asked.messages, index))

    def say(self, asked: AskedCall, reply: Reply, fault: str | None, chosen: float) -> Said:
        """The answer, spoilt by a fault, cut at the output limit, with its usage."""
        heard = self.heard(asked)
        limit = 2**31 if asked.limit is None else asked.limit
        reasoning = min(_REASONING_TOKENS, limit) if asked.reasons else 0
        text, finish = reply.text, reply.finish
        if fault:
            text, finish = faults.spoil(fault, text, chosen)
        call = None if fault else tools.due(asked)
        if call is not None:
            text, finish = json.dumps(call), "stop"
        elif not fault:
            text = tools.written(asked, text)
        spoken = self._encode(text)
        room, length = limit - reasoning, len(spoken.ids)
        if length > room:
            end = spoken.offsets[room - 1][1] if room else 0
            text, finish, length, call = text[:end], "length", room, None
        usage = Usage(heard, int(heard * self._cached), length + reasoning, reasoning)
        return Said("" if call else text, finish, usage, call)

    def _persona(self, model: str, family: str) -> Offline:
        if (model, family) not in self._personas:
            values = self._files[_PERSONAS.get(family, "offline")]
            played = {"name": model, "max_output_tokens": 2**31}  # we cut by tokens
            service = TypeAdapter(Service).validate_python(values | played)
            self._personas[model, family] = Offline(service)
        return self._personas[model, family]

    def _encode(self, text: str) -> Any:
        valid = text.encode("utf-8", "replace").decode()  # JSON can carry lone surrogates
        return self._tokenizer.encode(valid, add_special_tokens=False)


def read_services() -> dict[str, dict[str, Any]]:
    """Every file of conf/service as plain values, the files that it builds on merged in."""
    directory = locations.shared("conf") / "service"
    return {path.stem: _read(path) for path in sorted(directory.glob("*.yaml"))}


def _read(path: Path) -> dict[str, Any]:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    merged: dict[str, Any] = {}
    for parent in values.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            merged |= _read(path.with_name(f"{parent}.yaml"))
    for name, value in values.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = old | value if both else value
    return merged


def _prices(values: Any) -> Prices | None:
    return None if values is None else TypeAdapter(Prices).validate_python(values)
