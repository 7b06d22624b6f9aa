"""OpenAI's chat completions: a body becomes `Asked`, pieces become responses and chunks.

Fields, limits and shapes are those of the API reference (platform.openai.com/docs/api-reference/
chat). Of vLLM's extras `return_token_ids` and `return_tokens_as_token_ids` are taken.
"""

import json
import secrets
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from understudy.config.schema import suggest
from understudy.config.serve import Serve
from understudy.pipeline.asked import Asked
from understudy.records import Message

# They do not change the answer.
_IGNORED = {
    *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "prediction"),
}
# They would change it, but not with these values.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **{"tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],)},
    **{"function_call": ("none", "auto"), "response_format": ({"type": "text"},)},
    **{"modalities": (["text"],), "top_k": (0, -1), "min_p": (0,), "repetition_penalty": (1,)},
}
# Below these float32 divides by zero, or keeps no token; 1e-5 is _SAMPLING_EPS of vLLM too.
_COLDEST, _NARROWEST = 1e-5, 1e-6


class Refused(Exception):
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


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = False


class Body(BaseModel):
    """The fields that are honoured; null is the same as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str
    messages: Annotated[list[_Message], Field(min_length=1, fail_fast=True)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None  # null = as judged
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    n: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    return_token_ids: bool = False
    return_tokens_as_token_ids: bool = False

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def chat(self) -> list[Message]:
        """The messages as the chat template takes them."""
        return [{"role": _role(m.role), "content": _text(m.content)} for m in self.messages]


_FIELDS = list(Body.model_fields)


def parse(data: bytes, model: str, settings: Serve) -> Body:
    """The body of a request; Refused names what is wrong with it."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise Refused(400, "The body is no JSON object.")
    values = {name: value for name, value in values.items() if value is not None}
    for name in [name for name in values if name not in _FIELDS]:
        if name not in _IGNORED and values[name] not in _NEUTRAL.get(name, ()):
            near = suggest(name, _FIELDS) if name not in _NEUTRAL else ""
            _refuse(name, f"{name} is not supported by this server{near}", "unsupported_parameter")
        del values[name]
    try:
        body = Body.model_validate(values)
    except ValidationError as error:
        _refuse(*_reason(error))
    if body.model != model:
        message = f"The model {body.model!r} does not exist; this server has {model!r}."
        raise Refused(404, message, "model", "model_not_found")
    if body.n > (most := min(settings.max_choices, settings.batch_size)):
        _refuse("n", f"n={body.n} is above {most}, the most of this server")
    if len(_stops(body)) > 4:
        _refuse("stop", f"stop has {len(_stops(body))} strings; 4 are the most")
    if body.top_logprobs is not None and not body.logprobs:
        _refuse("top_logprobs", "top_logprobs needs logprobs=true")
    return body


def _refuse(param: str, message: str, code: str | None = None) -> NoReturn:
    raise Refused(400, message, param, code)


def _reason(error: ValidationError) -> tuple[str, str]:
    """The first field that is wrong, and a sentence."""
    first = error.errors()[0]
    named = [str(part) for part in first["loc"] if isinstance(part, int) or str(part).islower()]
    place = ".".join(part for part in named if part not in ("str", "constrained-str")) or "body"
    if first["type"] in ("missing", "missing_argument"):
        return place, f"{place} is missing."
    wanted = first["msg"].replace("Input should be", "it must be")
    return place, f"{place} is not valid: {wanted}."


def _role(role: str) -> str:
    return "system" if role == "developer" else role  # as OpenAI treats older models


def _text(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type")
            _refuse("messages", f"a content part of type {kind!r} is not supported; send text")
    return "".join(part["text"] for part in content)


def _stops(body: Body) -> tuple[str, ...]:
    stops = [body.stop] if isinstance(body.stop, str) else body.stop
    return tuple(stop for stop in stops if stop)


def asked(
    body: Body, ids: list[int], settings: Serve, context: int, vocabulary: int, usual: float
) -> Asked:
    """What the engine is to do; Refused where prompt and answer do not fit into the context.

    `usual` is the temperature of requests that give none.
    """
    room = context - len(ids)
    name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    wanted = body.max_completion_tokens or body.max_tokens
    if room < (wanted or 1):
        raise Refused(
            400,
            f"This server takes {context} tokens of prompt and answer together; the prompt has "
            f"{len(ids)} and {name} asks for {wanted or 'at least 1'}.",
            "messages" if room < 1 else name,
            "context_length_exceeded",
        )
    if wanted is not None and settings.max_tokens is not None and wanted > settings.max_tokens:
        _refuse(name, f"{name}={wanted} is above {settings.max_tokens}, the most of this server")
    temperature = usual if body.temperature is None else body.temperature
    return Asked(
        ids=tuple(ids),
        max_tokens=wanted or min(room, settings.max_tokens or room),
        n=body.n,
        temperature=temperature if temperature >= _COLDEST else 0.0,
        top_p=max(body.top_p, _NARROWEST),
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        stop=_stops(body),
        presence=body.presence_penalty,
        frequency=body.frequency_penalty,
        bias=_bias(body.logit_bias, vocabulary),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        is_streamed=body.stream,
    )


def _bias(bias: dict[str, float], vocabulary: int) -> dict[int, float]:
    for token in bias:
        is_number = token.isascii() and token.isdigit() and len(token) < 20
        if not (is_number and int(token) < vocabulary):
            _refuse("logit_bias", f"logit_bias: {token[:20]!r} is no token below {vocabulary}")
    return {int(token): value for token, value in bias.items()}
