"""Answers that keep to a JSON schema: at each step only tokens that can still lead to a valid text.

llguidance compiles the schema and says which tokens may come next. It refuses what it cannot
hold to, where other libraries let it pass, so what ends by itself is valid.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from understudy.errors import BadInput, EnvironmentFailed

# One blank, or a line break and its indent: a weak model must not write blanks for ever.
_BLANKS = r"[ ]|\n[ ]{0,16}"
# No \uXXXX: half of a surrogate pair is no text, and a pair counts twice for maxLength.
_ESCAPES = 'nrbtf\\"'
_FORMATS = {  # that are held to; others are remarks, as JSON Schema has it
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
}
_INSIDE = ("items", "additionalProperties", "not", "if", "then", "else", "contains")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
# Beside `properties` these add others, so what is not listed cannot be closed off.
_ADDING = ("allOf", "anyOf", "oneOf", "$ref", "if", "patternProperties", "additionalProperties")
_MOST = 64  # schemas that are kept compiled


class Forms:
    """Schemas compiled for one model's tokens; may be used from any thread."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        self._tokenizer, self._stop_ids = tokenizer, stop_ids
        self._tokens: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def constraint(self, schema: str) -> "Constraint":
        """The schema for one answer; BadInput where it is none, or cannot be kept to."""
        with self._lock:
            tokens = self._known_tokens()
            found = self._compiled.get(schema)
        if found is None:
            found = _library().LLMatcher(tokens, grammar(schema), log_level=0)
            if found.is_error():
                raise BadInput(_reason(found.get_error()))
            with self._lock:
                self._compiled[schema] = found
                if len(self._compiled) > _MOST:
                    self._compiled.popitem(last=False)
        return Constraint(found.deep_copy(), tokens.vocab_size)

    def _known_tokens(self) -> Any:
        """The vocabulary as the library needs it, which takes seconds where it is large."""
        if self._tokens is None:
            _library()
            from llguidance.hf import from_tokenizer

            known = sorted(one for one in self._stop_ids if one < len(self._tokenizer))
            self._tokens = from_tokenizer(self._tokenizer, eos_token=known or None)
        return self._tokens


class Constraint:
    """Where one answer stands in its schema."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self.matcher, self.vocabulary = matcher, vocabulary

    def take(self, token: int) -> bool:
        """Go on by a token; False where it leads nowhere."""
        return bool(self.matcher.consume_token(token))

    @property
    def is_whole(self) -> bool:
        """Whether nothing can follow."""
        return bool(self.matcher.is_stopped())


def allow(logits: Any, rows: Sequence[int], constraints: Sequence[Constraint]) -> None:
    """Leave only tokens that the constraints of these rows of `logits` (B, V) let come next."""
    if not rows:
        return
    import llguidance.numpy as masks
    import numpy as np
    import torch

    known = constraints[0].vocabulary  # a model may have more columns than tokens, or fewer
    packed = np.zeros(masks.get_bitmask_shape(len(rows), known), dtype=np.int32)  # (rows, V / 32)
    for place, one in enumerate(constraints):
        masks.fill_next_token_bitmask(one.matcher, packed, place)
    bits = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little", count=known)
    both = min(known, logits.shape[1])
    is_out = torch.ones(len(rows), logits.shape[1], dtype=torch.bool)
    is_out[:, :both] = torch.from_numpy(bits[:, :both] == 0)
    is_out = is_out.to(logits.device)
    where = torch.tensor(rows, device=logits.device)
    logits[where] = logits[where].masked_fill(is_out, -torch.inf)


def check(schema: str) -> None:
    """Raise BadInput for a schema that is none, or cannot be held to."""
    found = _library().LLMatcher.validate_grammar(grammar(schema))
    if found and not found.startswith("WARNING"):
        raise BadInput(_reason(found))


def grammar(schema: str) -> str:
    """The schema as llguidance takes it."""
    options = {"whitespace_pattern": _BLANKS, "json_allowed_escapes": _ESCAPES}
    try:
        made = _plain(json.loads(schema), closes="allOf" not in schema)
    except RecursionError:
        raise BadInput("it is nested too deeply") from None
    written: str = _library().LLMatcher.grammar_from_json_schema(made, overrides=options)
    return written


def _plain(schema: Any, closes: bool) -> Any:
    """The schema without mere remarks; objects that list their properties are closed.

    A narrower schema is still kept to, and an open object would let a weak model go on for ever.
    """
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    if "format" in made and made["format"] not in _FORMATS:
        del made["format"]
    if made.get("uniqueItems") is False:
        del made["uniqueItems"]
    for name in _INSIDE:
        if name in made:
            made[name] = _plain(made[name], closes)
    for name in _LISTS:
        if isinstance(made.get(name), list):
            made[name] = [_plain(one, closes and "properties" not in made) for one in made[name]]
    for name in _NAMED:
        if isinstance(made.get(name), dict):
            made[name] = {key: _plain(one, closes) for key, one in made[name].items()}
    if closes and made.get("properties") and not any(name in made for name in _ADDING):
        made["additionalProperties"] = False
    return made


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError:
        raise EnvironmentFailed(
            "answers in JSON need llguidance: pip install 'understudy[serve]'"
        ) from None
    return llguidance


def _reason(error: str) -> str:
    """The library's first line, which names the keyword."""
    return error.strip().partition("\n")[0]
