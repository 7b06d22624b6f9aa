"""Whether an exported model is the model that was judged: what is compared, and the verdict.

Three forms answer the same prompts: the judged one (base and adapter as training left them), the
exported files loaded from disk, and a server of them. Compared are, in this order, the rendered
chat template, the token ids, what stops an answer, the dtype of the weights, the distributions of
the first tokens, and greedy answers; the first difference is the cause, in one sentence.

Everything here is a function of its arguments; `checks.py` and `server.py` measure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TOP = 20  # likeliest tokens that a server tells of, the most that OpenAI's protocol allows


class Tolerance(NamedTuple):
    """What rounding alone may do to equal weights."""

    kl: float  # nats a token, mean over the prompts' first tokens
    agreement: float  # share of greedy tokens that are the same
    answers: float  # share of whole greedy answers of a server that are the same
    cut: float  # share of them that may end where the judged one goes on: of near-ties


# Measured on the tiny model and on a random one, mean KL of 384 to 512 first tokens, LoRA merged
# against LoRA beside its base: 5e-14 in fp32, 1e-7 in fp16, 1e-5 in bf16; fp32 weights rounded to
# fp16 1e-8, to bf16 7e-7. Published for Llama 3 8B (llama.cpp, tools/perplexity/README.md): fp16
# against bf16 weights 2.5e-5, and q8_0, which is no rounding any more, 1.4e-3 and 98.8 % agreement.
# `cut` in 16 bits is chosen, not measured: wrong stops cut many answers, a near-tie one or two.
TOLERANCES = {
    "float32": Tolerance(1e-9, 0.998, 0.95, 0.0),
    "float16": Tolerance(1e-4, 0.99, 0.0, 0.1),
    "bfloat16": Tolerance(1e-3, 0.98, 0.0, 0.1),
}
# Of another program's arithmetic, which may round activations to 16 bits whatever the weights are.
FOREIGN = Tolerance(1e-3, 0.95, 0.0, 0.1)


def tolerance(*dtypes: str) -> Tolerance:
    """That of the coarsest of these dtypes."""
    return max(TOLERANCES[dtype] for dtype in dtypes)


@dataclass(frozen=True)
class Reading:
    """How one form of the model reads a prompt."""

    prompt_id: str
    text: str  # in the chat template
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Stops:
    """What ends an answer: token ids, and strings that are no single token."""

    ids: frozenset[int]
    texts: frozenset[str]


@dataclass(frozen=True)
class Distance:
    """How far the next-token distributions of two models are apart, over the same tokens."""

    kl: float  # nats a token, mean
    worst: float
    worst_at: str  # prompt and token of the worst
    agreement: float  # share of positions with the same likeliest token
    tokens: int


class Greedy(NamedTuple):
    """A greedy answer; what a server does not tell is None or empty."""

    prompt_id: str
    text: str
    is_stopped: bool  # else it was cut off
    prompt_tokens: int | None
    tokens: Sequence[int] | None  # the first ones at least
    likeliest: Sequence[Sequence[float]]  # log-probabilities by token, falling


@dataclass
class Report:
    """Everything measured; `cause` is the first thing that is not as it must be, or None."""

    measured: dict[str, Any] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)  # what, and why not
    cause: str | None = None

    def found(self, what: str, measured: dict[str, Any] | None, cause: str | None) -> bool:
        """Note a comparison; whether all is well so far. NaN and infinity are noted as None."""
        pairs = (measured or {}).items()
        self.measured[what] = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in pairs
        }
        self.cause = self.cause or cause
        return self.cause is None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        outcome = "parity" if self.cause is None else "mismatch"
        return {"outcome": outcome, "cause": self.cause} | {
            "measured": self.measured,
            "not_measured": self.unmeasured,
        }


def templates(judged: Sequence[Reading], exported: Sequence[Reading]) -> str | None:
    """The first difference of the rendered prompts."""
    for old, new in zip(judged, exported, strict=True):
        if old.text != new.text:
            place = _first_difference(old.text, new.text)
            return (
                f"chat template differs at character {place} of prompt {old.prompt_id}: "
                f"{_piece(old.text, place)} became {_piece(new.text, place)}"
            )
    return None


def token_ids(judged: Sequence[Reading], exported: Sequence[Reading], names: Any) -> str | None:
    """The first difference of the prompts' tokens; `names` maps an id to its token."""
    for old, new in zip(judged, exported, strict=True):
        if old.ids != new.ids:
            place = _first_difference(old.ids, new.ids)
            then, now = (_token(ids, place, names) for ids in (old.ids, new.ids))
            return (
                f"token ids differ at token {place} of prompt {old.prompt_id}: {then} became {now}"
            )
    return None


def stops(judged: Stops, exported: Stops, names: Any) -> str | None:
    """What no longer ends an answer, or newly does."""
    place = "generation_config.json"
    now = sorted(exported.ids)
    for token in sorted(judged.ids - exported.ids):
        lost = f"stop token {names(token)} (id {token}) is missing from {place}"
        return f"{lost}, which stops at {now or 'nothing'}"
    for token in sorted(exported.ids - judged.ids):
        return f"{place} stops at {names(token)} (id {token}), where the judged model goes on"
    for text in sorted(judged.texts ^ exported.texts):
        fate = "missing from" if text in judged.texts else "new in"
        return f"stop string {text!r} is {fate} {place}"
    return None


def dtypes(stored: Mapping[str, int], wanted: str) -> str | None:
    """A dtype that the files should not have; `stored` maps dtypes to numbers of tensors."""
    if wrong := sorted(kind for kind in stored if kind != wanted):
        count, total = sum(stored[kind] for kind in wrong), sum(stored.values())
        return (
            f"weights differ: {count} of {total} tensors are stored as {', '.join(wrong)}, "
            f"and {wanted} was exported"
        )
    return None


def weights(distance: Distance, dtype: str) -> str | None:
    """A distance that rounding to `dtype` does not explain; one that is no number never does."""
    allowed = TOLERANCES[dtype]
    if distance.kl <= allowed.kl and distance.agreement >= allowed.agreement:
        return None
    return (
        f"KL {distance.kl:.1e} a token (at most {allowed.kl:.0e} in {dtype}), worst "
        f"{distance.worst:.1e} at {distance.worst_at}; greedy tokens agree on "
        f"{distance.agreement:.1%}"
    )


def server(
    judged: Sequence[Greedy], served: Sequence[Greedy], allowed: Tolerance
) -> tuple[dict[str, Any], str | None]:
    """How far a server's answers are from the judged model's, and what is wrong with them."""
    pairs = list(zip(judged, served, strict=True))
    total = len(pairs)
    divergences = [kl for old, new in pairs for kl in _divergences(old, new)]
    kl = sum(divergences) / len(divergences) if divergences else None
    first = sum(_starts_alike(old, new) for old, new in pairs) / total
    equal = sum(old.text == new.text for old, new in pairs) / total
    endless = [old.prompt_id for old, new in pairs if old.is_stopped and not new.is_stopped]
    cut = [old.prompt_id for old, new in pairs if _is_cut(old, new)]
    found = {
        **{"answers": total, "equal_answers": equal, "equal_first_tokens": first},
        **{"endless": len(endless), "cut": len(cut)},
        **{"kl_of_20_likeliest": kl, "tokens": len(divergences)},
    }
    for old, new in pairs:
        if new.prompt_tokens is not None and new.prompt_tokens != old.prompt_tokens:
            return found, (
                f"the server reads prompt {old.prompt_id} as {new.prompt_tokens} tokens and the "
                f"judged model as {old.prompt_tokens}: its chat template or first token differs"
            )
    if endless and len(endless) > total * (1 - allowed.agreement):
        return found, (
            f"the server does not stop: {len(endless)} of {total} answers that the judged model "
            f"ended run on to the limit, the first to prompt {endless[0]}"
        )
    if kl is not None and not kl <= allowed.kl:
        return found, (
            f"the server's probabilities differ from those judged: KL {kl:.1e} a token over the "
            f"likeliest tokens, at most {allowed.kl:.0e}"
        )
    otherwise = (
        f"the server answers otherwise: {equal:.1%} of its greedy answers and {first:.1%} of "
        "their first tokens are those of the judged model"
    )
    if first < allowed.agreement:
        return found, otherwise
    if len(cut) > total * allowed.cut:
        return found, (
            f"the server stops early: {len(cut)} of {total} answers end where the judged model "
            f"goes on, the first to prompt {cut[0]}"
        )
    return found, otherwise if equal < allowed.answers else None


def _divergences(old: Greedy, new: Greedy) -> list[float]:
    """Divergence at each of the first tokens, up to the one at which the answers part.

    Σ p log(p/q) - p + q over the likeliest tokens of both, by rank: never negative, and 0 only for
    equal probabilities. Beside KL it leaves out the other tokens, whose sum is lost in rounding.
    """
    same = _first_difference(old.tokens or (), new.tokens or ())
    count = len(old.likeliest) if old.text == new.text else same + 1
    places = list(zip(old.likeliest, new.likeliest, strict=False))[:count]
    return [
        sum(math.exp(p) * (p - q) - math.exp(p) + math.exp(q) for p, q in zip(ps, qs, strict=False))
        for ps, qs in places
    ]


def _is_cut(old: Greedy, new: Greedy) -> bool:
    return new.is_stopped and len(new.text) < len(old.text) and old.text.startswith(new.text)


def _starts_alike(old: Greedy, new: Greedy) -> bool:
    if new.tokens and old.tokens:
        return new.tokens[0] == old.tokens[0]
    return old.text[:1] == new.text[:1]


def _first_difference(old: Sequence[Any], new: Sequence[Any]) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(old), len(new)))


def _piece(text: str, place: int) -> str:
    return repr(text[max(0, place - 10) : place + 20]) if place < len(text) else "the end"


def _token(ids: Sequence[int], place: int, names: Any) -> str:
    return f"{names(ids[place])!r} ({ids[place]})" if place < len(ids) else "the end"
