"""Answer with vLLM's own server, which listens on a loopback port for this process only.

It gets token ids, not messages, so template and stop tokens are those of training; what it
computes, batches and cancels is its own business. Fields are those of vLLM 0.33.0's completions.
"""

import asyncio
import json
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from understudy.config.serve import Serve
from understudy.errors import BadInput, EnvironmentFailed
from understudy.models import load
from understudy.pipeline.asked import Asked, Logprob, Piece
from understudy.serve import engine_vllm_worker
from understudy.serve.served import Served

_NAME = "served"
_POLL_S = 0.2


def check(python: str | None) -> None:
    """Raise BadInput where there is no vLLM."""
    if python is None:
        raise BadInput(
            "serve.engine=vllm needs serve.python: the python of a virtual environment with vllm"
        )
    try:
        done = subprocess.run(_command(python), capture_output=True, text=True)
    except OSError as error:
        raise BadInput(f"serve.python={python} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise BadInput(_last_line(done.stderr))


@contextmanager
def vllm_engine(served: Served, settings: Serve) -> Iterator["VllmEngine"]:
    """Start vLLM's server, wait until it is ready, end it; EnvironmentFailed when it breaks."""
    check(settings.python)
    with tempfile.TemporaryDirectory(prefix="understudy-serve-") as scratch:
        model = served.directory or _merged(served, Path(scratch) / "merged")
        key, port, log = secrets.token_hex(), _free_port(), Path(scratch) / "log.txt"
        with log.open("w", encoding="utf-8") as output:
            child = subprocess.Popen(
                _command(str(settings.python), *_arguments(model, port, served, settings)),
                stdout=output,
                stderr=output,
                env={**os.environ, **_ENVIRONMENT, "VLLM_API_KEY": key},
                start_new_session=True,  # Ctrl-C is for us: what is under way may end
            )
        try:
            _await_health(child, f"http://127.0.0.1:{port}", log)
            yield VllmEngine(f"http://127.0.0.1:{port}", key, served, child)
        finally:
            child.terminate()
            try:
                child.wait(settings.patience_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def _command(python: str, *arguments: str) -> list[str]:
    """`-P`: our package's directory must not shadow modules that vLLM imports."""
    return [str(Path(python).expanduser()), "-P", engine_vllm_worker.__file__, *arguments]


def _arguments(model: Path, port: int, served: Served, settings: Serve) -> list[str]:
    context = min(served.context, settings.context or served.context)
    return [
        *("--model", str(model), "--served-model-name", _NAME),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", str(load.dtype()).removeprefix("torch.")),
        *("--max-model-len", str(context), "--max-num-seqs", str(settings.batch_size)),
        *("--generation-config", "vllm"),  # ours is all there is
    ]


def _merged(served: Served, path: Path) -> Path:
    """The adapter in its base, as files; its memory is free again after."""
    import torch

    served.load(load.dtype()).save_pretrained(path)
    served.tokenizer.save_pretrained(path)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return path


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def _await_health(child: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    while child.poll() is None:
        try:
            if httpx2.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:  # not up yet
            pass
        time.sleep(_POLL_S)
    last = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    raise EnvironmentFailed(f"vLLM ended with exit code {child.returncode}: {last}")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


class VllmEngine:
    """An `asked.Engine`."""

    about = "vllm"

    def __init__(
        self, url: str, key: str, served: Served, child: "subprocess.Popen[bytes]"
    ) -> None:
        self._url, self._key, self._child = f"{url}/v1/completions", key, child
        self._stop_ids, self._stop_texts = sorted(served.stop_ids), served.stop_texts
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"},
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
        return self._child.poll() is None

    def start(self, asked: Asked, put: Callable[[Piece], None]) -> Callable[[], None]:
        task = asyncio.create_task(self._answer(asked, put))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def cancel() -> None:
            task.cancel()

        return cancel

    async def _answer(self, asked: Asked, put: Callable[[Piece], None]) -> None:
        """Read vLLM's stream; a connection that we close ends the generation there."""
        count = _choices(asked)
        growing = [Piece(index) for index in range(count)]

        def tell(piece: Piece) -> None:
            for index in range(piece.index, asked.n, count):
                put(replace(piece, index=index))

        try:
            async with self._client.stream("POST", self._url, json=self._body(asked)) as response:
                if response.status_code != 200:
                    raise _Failed((await response.aread()).decode(errors="replace"))
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        _grow(growing, json.loads(line[6:]), asked, tell)
            if any(piece.finish is None for piece in growing):
                raise _Failed("its stream ended early")
        except Exception as error:  # whatever it is, the request must hear of it
            put(Piece(0, f"vLLM: {error}", finish="error"))

    def _body(self, asked: Asked) -> dict[str, Any]:
        return {
            "model": _NAME,
            "prompt": asked.ids,
            "max_tokens": asked.max_tokens,
            "n": _choices(asked),
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed % 2**63,
            "stop": [*asked.stop, *self._stop_texts],
            "stop_token_ids": self._stop_ids,
            "presence_penalty": asked.presence,
            "frequency_penalty": asked.frequency,
            "logit_bias": {str(token): bias for token, bias in asked.bias.items()} or None,
            "logprobs": asked.top_logprobs,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "stream": True,
        }


def _choices(asked: Asked) -> int:
    """How many answers vLLM gives: greedy ones are all the same, and it refuses to repeat them."""
    return asked.n if asked.temperature > 0 else 1


class _Failed(Exception):
    """vLLM's words for what went wrong."""


def _grow(
    growing: list[Piece], event: dict[str, Any], asked: Asked, put: Callable[[Piece], None]
) -> None:
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
