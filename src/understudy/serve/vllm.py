"""Answer with vLLM's own server, which `inference/vllm.py` starts for this process only.

It gets token ids, not messages, so template and stop tokens are those of training; what it
computes, batches and cancels is its own business. Fields are those of vLLM 0.33.0's completions.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from understudy.config.serve import ServeConfig
from understudy.errors import BadInput
from understudy.inference import DecodeRequest, Logprob, forms, vllm
from understudy.inference.vllm import VllmServer
from understudy.models import load
from understudy.serve import Piece, Put
from understudy.serve.model import Served

_NAME = "served"


def check(python: str | None) -> None:
    """Raise BadInput where there is no vLLM."""
    if python is None:
        raise BadInput(
            "serve.engine=vllm needs serve.python: the python of a virtual environment with vllm"
        )
    vllm.check_python(python, "serve")


@contextmanager
def vllm_engine(served: Served, settings: ServeConfig) -> Iterator["VllmEngine"]:
    """Start vLLM's server, wait until it is ready, end it; EnvironmentFailed when it breaks."""
    check(settings.python)
    with tempfile.TemporaryDirectory(prefix="understudy-serve-") as scratch:
        model = served.directory or vllm.merged(
            Path(scratch) / "merged", lambda: served.load(load.dtype()), served.tokenizer
        )
        context = min(served.context, settings.context or served.context)
        limits = ("--max-model-len", str(context), "--max-num-seqs", str(settings.batch_size))
        log, patience = Path(scratch) / "log.txt", settings.patience_s
        python = str(settings.python)
        with vllm.serving(python, model, _NAME, limits, log, patience) as server:
            yield VllmEngine(server, served)


class VllmEngine:
    """A `serve.Engine`."""

    about = "vllm"

    def __init__(self, server: VllmServer, served: Served) -> None:
        self._server = server
        self._stop_ids, self._stop_texts = sorted(served.stop_ids), served.stop_texts
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._server.key}"},
            timeout=None,
            limits=httpx2.Limits(max_connections=None),
            trust_env=False,  # no proxy gets the key
        )

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def is_alive(self) -> bool:
        return self._server.child.poll() is None

    def start(self, asked: DecodeRequest, put: Put) -> Callable[[], None]:
        task = asyncio.create_task(self._answer(asked, put))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            task.cancel()

        return cancel

    async def _answer(self, asked: DecodeRequest, put: Put) -> None:
        """Read vLLM's stream; a connection that we close ends the generation there."""
        count = _choices(asked)
        growing = [Piece(index) for index in range(count)]
        prompt: list[Logprob] = []
        told: set[int] = set()  # answers whose first piece, with the prompt's part, is out

        def tell(piece: Piece) -> None:
            for index in range(piece.index, asked.n, count):
                put(replace(piece, index=index, prompt=prompt if index not in told else []))
                told.add(index)

        url, body = f"{self._server.url}/v1/completions", self._body(asked)
        try:
            if asked.scores_prompt:
                prompt += await self._scored(url, asked)
            if not asked.max_tokens:
                growing = [replace(piece, finish="length") for piece in growing]
                for piece in growing:
                    tell(piece)
                return
            async with self._client.stream("POST", url, json=body) as response:
                if response.status_code != 200:
                    raise _Failed((await response.aread()).decode(errors="replace"))
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        _grow(growing, json.loads(line[6:]), asked, tell)
            if any(piece.finish is None for piece in growing):
                raise _Failed("its stream ended early")
        except Exception as error:  # whatever it is, the request must hear of it
            put(Piece(0, f"vLLM: {error}", finish="error"))

    async def _scored(self, url: str, asked: DecodeRequest) -> list[Logprob]:
        """The log-probabilities of the prompt, which vLLM tells in whole answers only."""
        top = asked.top_logprobs or 0
        body = {"model": _NAME, "prompt": asked.ids, "max_tokens": 1, "prompt_logprobs": top}
        response = await self._client.post(url, json=body)
        if response.status_code != 200:
            raise _Failed(response.text)
        found = []
        told = response.json()["choices"][0]["prompt_logprobs"][1:]
        for token, likeliest in zip(asked.ids[1:], told, strict=True):
            values = {int(name): float(one["logprob"]) for name, one in likeliest.items()}
            ranked = sorted(values.items(), key=lambda item: -item[1])[:top]
            found.append(Logprob(token, values[token], ranked))
        return found

    def prepare(self, asked: DecodeRequest) -> None:
        if asked.schema is not None:
            forms.check(asked.schema)

    def _body(self, asked: DecodeRequest) -> dict[str, Any]:
        own = [] if asked.ignores_end else self._stop_ids
        more: dict[str, Any] = {
            "top_k": asked.top_k,
            "min_p": asked.min_p,
            "min_tokens": 0 if asked.schema is not None else asked.min_tokens,
            "ignore_eos": asked.ignores_end,
        }
        more = {name: value for name, value in more.items() if value}
        if asked.schema is not None:
            more["structured_outputs"] = {"json": json.loads(asked.schema)}
        return more | {
            "model": _NAME,
            "prompt": asked.ids,
            "max_tokens": asked.max_tokens,
            "n": _choices(asked),
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed % 2**63,
            "stop": [*asked.stop, *self._stop_texts],
            "stop_token_ids": [*own, *asked.stop_ids],
            "presence_penalty": asked.presence,
            "frequency_penalty": asked.frequency,
            "logit_bias": {str(token): bias for token, bias in asked.bias.items()} or None,
            "logprobs": asked.top_logprobs,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": True,
        }


def _choices(asked: DecodeRequest) -> int:
    """How many answers vLLM gives: greedy ones are all the same, and it refuses to repeat them."""
    return asked.n if asked.temperature > 0 else 1


class _Failed(Exception):
    """vLLM's words for what went wrong."""


def _grow(growing: list[Piece], event: dict[str, Any], asked: DecodeRequest, put: Put) -> None:
    """Add what an event brings; tell a piece of a stream, or a whole answer."""
    if "error" in event:
        raise _Failed(str(event["error"]))
    for choice in event["choices"]:
        piece = growing[choice["index"]]
        piece.text += choice["text"]
        piece.tokens += choice.get("token_ids") or []
        if asked.top_logprobs is not None and choice.get("logprobs"):
            piece.logprobs += _logprobs(choice["logprobs"], asked.top_logprobs)
        piece.finish = choice["finish_reason"]
        if piece.finish not in (None, "stop", "length"):
            raise _Failed(f"finish_reason={piece.finish}")
        if piece.finish is not None or (asked.is_streamed and piece.text):
            put(piece)
            growing[piece.index] = Piece(piece.index, finish=piece.finish)


def _logprobs(told: dict[str, Any], top: int) -> list[Logprob]:
    """`top_logprobs` holds the sampled token too, where it is not among the likeliest."""
    found = []
    for token, value, likeliest in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        ranked = sorted((likeliest or {}).items(), key=lambda item: -item[1])[:top]
        found.append(Logprob(_id(token), value, [(_id(name), at) for name, at in ranked]))
    return found


def _id(name: str) -> int:
    return int(name.removeprefix("token_id:"))
