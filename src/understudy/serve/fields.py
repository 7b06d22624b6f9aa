"""What all requests share: OpenAI's fields of sampling, their limits, and errors of its shape.

Fields and limits are those of the API reference (platform.openai.com/docs/api-reference). Of
vLLM's extras `top_k`, `min_p`, `min_tokens`, `stop_token_ids`, `ignore_eos`, `return_token_ids`
and `return_tokens_as_token_ids` are taken.
"""

import json
import secrets
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.config.schema import suggest
from understudy.config.serve import ServeConfig
from understudy.inference import DecodeRequest

# Below these float32 divides by zero, or keeps no token; 1e-5 is _SAMPLING_EPS of vLLM too.
_COLDEST, _NARROWEST = 1e-5, 1e-6
# They do not change the answer.
IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("prompt_cache_retention", "prediction"),
    *("reasoning_effort", "verbosity"),  # hints, and no model here has learnt them
}


class Rejected(Exception):
    """A request that gets an error of OpenAI's shape."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.message = f"{message.rstrip('.')}."

    def body(self) -> dict[str, Any]:
        """The response."""
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = kinds.get(self.status, kind)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(BaseModel):
    """What a stream brings beside its text."""

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = False


class Sampled(BaseModel):
    """The fields of sampling that are honoured; null is the same as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None  # null = as judged
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    n: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] = 0
    stop: str | Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)
    stop_token_ids: Annotated[list[int], Field(fail_fast=True, max_length=64)] = Field(
        default_factory=list
    )
    ignore_eos: bool = False
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    asks_in: ClassVar[str]  # the field that holds the prompt

    def wanted(self) -> tuple[str, int | None]:
        """The field that says how many tokens the answer may have, and what it says."""
        raise NotImplementedError

    @property
    def likeliest(self) -> int | None:
        """How many likely tokens are told with each; None = no log-probabilities."""
        raise NotImplementedError


B = TypeVar("B", bound=Sampled)


def parse(
    data: bytes,
    kind: type[B],
    neutral: dict[str, tuple[Any, ...]],
    model: str,
    settings: ServeConfig,
) -> B:
    """The body of a request; Rejected names what is wrong with it.

    `neutral` are fields that would change the answer, but not with these values.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"The body is no valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise Rejected(400, "The body is no JSON object.")
    values = {name: value for name, value in values.items() if value is not None}
    names = list(kind.model_fields)
    for name in [name for name in values if name not in names]:
        if name not in IGNORED and values[name] not in neutral.get(name, ()):
            near = suggest(name, names) if name not in neutral else ""
            refuse(name, f"{name} is not supported by this server{near}", "unsupported_parameter")
        del values[name]
    try:
        body = kind.model_validate(values)
    except ValidationError as error:
        refuse(*_reason(error))
    if body.model != model:
        message = f"The model {body.model!r} does not exist; this server has {model!r}."
        raise Rejected(404, message, "model", "model_not_found")
    if body.n > (most := min(settings.max_choices, settings.batch_size)):
        refuse("n", f"n={body.n} is above {most}, the most of this server")
    if len(_stops(body)) > 4:
        refuse("stop", f"stop has {len(_stops(body))} strings; 4 are the most")
    return body


def refuse(param: str, message: str, code: str | None = None) -> NoReturn:
    """Raise the Rejected that names a field."""
    raise Rejected(400, message, param, code)


def _reason(error: ValidationError) -> tuple[str, str]:
    """The first field that is wrong, and a sentence."""
    first = error.errors()[0]
    named = [str(part) for part in first["loc"] if isinstance(part, int) or str(part).islower()]
    place = ".".join(part for part in named if part not in ("str", "constrained-str")) or "body"
    if first["type"] in ("missing", "missing_argument"):
        return place, f"{place} is missing."
    wanted = first["msg"].replace("Input should be", "it must be")
    return place, f"{place} is not valid: {wanted}."


def _stops(body: Sampled) -> tuple[str, ...]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop
    return tuple(stop for stop in stops if stop)


def asked(
    body: Sampled,
    ids: list[int],
    settings: ServeConfig,
    context: int,
    vocabulary: int,
    usual: float,
    schema: str | None = None,
    scores_prompt: bool = False,
) -> DecodeRequest:
    """What the engine is to do; Rejected where prompt and answer do not fit into the context.

    `usual` is the temperature of requests that give none.
    """
    room = context - len(ids)
    name, wanted = body.wanted()
    if room < (1 if wanted is None else wanted):
        raise Rejected(
            400,
            f"This server takes {context} tokens of prompt and answer together; the prompt has "
            f"{len(ids)} and {name} asks for {'at least 1' if wanted is None else wanted}.",
            body.asks_in if room < 1 else name,
            "context_length_exceeded",
        )
    if wanted is not None and settings.max_tokens is not None and wanted > settings.max_tokens:
        refuse(name, f"{name}={wanted} is above {settings.max_tokens}, the most of this server")
    temperature = usual if body.temperature is None else body.temperature
    if any(not 0 <= token < vocabulary for token in body.stop_token_ids):
        refuse("stop_token_ids", f"stop_token_ids names no tokens below {vocabulary}")
    return DecodeRequest(
        ids=tuple(ids),
        max_tokens=min(room, settings.max_tokens or room) if wanted is None else wanted,
        n=body.n,
        temperature=temperature if temperature >= _COLDEST else 0.0,
        top_p=max(body.top_p, _NARROWEST),
        top_k=max(body.top_k, 0),
        min_p=body.min_p,
        min_tokens=body.min_tokens,
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        stop=_stops(body),
        stop_ids=tuple(body.stop_token_ids),
        ignores_end=body.ignore_eos,
        presence=body.presence_penalty,
        frequency=body.frequency_penalty,
        bias=_bias(body.logit_bias, vocabulary),
        schema=schema,
        top_logprobs=body.likeliest,
        scores_prompt=scores_prompt,
        is_streamed=body.stream,
    )


def _bias(bias: dict[str, float], vocabulary: int) -> dict[int, float]:
    for token in bias:
        is_number = token.isascii() and token.isdigit() and len(token) < 20
        if not (is_number and int(token) < vocabulary):
            refuse("logit_bias", f"logit_bias: {token[:20]!r} is no token below {vocabulary}")
    return {int(token): value for token, value in bias.items()}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens; each generated one counts, the stop token included, as in vLLM."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def event(values: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(values, ensure_ascii=False, separators=(',', ':'))}\n\n"


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The UTF-8 bytes of a token, of which a byte-level or byte-fallback one may hold a part."""
    piece = tokenizer.convert_ids_to_tokens(token)
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if piece is None or "\ufffd" not in text:
        return text.encode()
    if len(piece) == 6 and piece.startswith("<0x"):  # byte fallback of sentencepiece
        return bytes([int(piece[3:5], 16)])
    if all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    return text.encode()


def _byte_letters() -> dict[str, int]:
    """Letter → byte of byte-level BPE (GPT-2, openai/gpt-2: src/encoder.py)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    letters = {chr(byte): byte for byte in own}
    return letters | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTES = _byte_letters()
