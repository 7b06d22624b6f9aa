"""Ask a server of the exported model what the judged model was asked, by OpenAI's wire protocol.

`POST /v1/chat/completions` with temperature 0 and log-probabilities; `/health` says that it is
ready. llama.cpp's server also tells how it reads a prompt: `/apply-template` and `/tokenize`.
"""

import http.client
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.errors import EnvironmentFailed
from understudy.export.parity import TOP, Greedy, Reading
from understudy.prompts import chat
from understudy.records import Coverage, written

_KEY = "UNDERSTUDY_API_KEY"
_AT_ONCE = 4
_POLL_S = 0.1
_ANSWER_S = 600.0  # for one answer
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # all is on loopback


def ask(
    url: str, rows: Sequence[Coverage], max_tokens: int, template: str
) -> tuple[list[Greedy], list[Reading]]:
    """The greedy answers to the rows' prompts, in order, and how the prompts were read.

    `url` ends in /v1. Only servers that take vLLM's `return_token_ids` tell how they read: else
    the second list is empty. Raises EnvironmentFailed where the server refuses or breaks off.
    """
    name = _post_or_get(f"{url}/models")["data"][0]["id"]

    def one(row: Coverage) -> tuple[Greedy, Reading | None]:
        said = chat.rendered(template, row.prompt, row.tools)
        body = {
            **{"model": name, "messages": said.messages, "max_tokens": max_tokens},
            **({} if said.tools is None else {"tools": said.tools}),
            **{"temperature": 0, "logprobs": True, "top_logprobs": TOP},
            "return_token_ids": True,
        }
        return _answer(row.id, _post_or_get(f"{url}/chat/completions", body))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(one, rows))
    readings = [reading for _, reading in answers if reading is not None]
    return [greedy for greedy, _ in answers], readings


def _answer(name: str, reply: dict[str, Any]) -> tuple[Greedy, Reading | None]:
    choice = reply["choices"][0]
    told = (choice.get("logprobs") or {}).get("content") or []
    tokens = choice.get("token_ids") or [
        one["id"] for one in told if "id" in one
    ]  # vLLM, llama.cpp
    likeliest = [
        sorted((top["logprob"] for top in token["top_logprobs"]), reverse=True) for token in told
    ]
    count = (reply.get("usage") or {}).get("prompt_tokens")
    calls = [
        {"name": one["function"]["name"], "arguments": json.loads(one["function"]["arguments"])}
        for one in choice["message"].get("tool_calls") or ()
    ]
    text = written({"content": choice["message"]["content"], "tool_calls": calls})
    is_stopped = choice["finish_reason"] in ("stop", "tool_calls")
    ids = reply.get("prompt_token_ids")
    reading = Reading(name, "", tuple(ids)) if ids else None
    return Greedy(name, text, is_stopped, count, tokens or None, likeliest), reading


def read(url: str, rows: Sequence[Coverage], template: str) -> list[Reading]:
    """How llama.cpp's server reads the rows' prompts; it strips and adds the first token itself."""
    root = url.removesuffix("/v1")

    def one(row: Coverage) -> Reading:
        said = chat.rendered(template, row.prompt, row.tools)
        body = {"messages": said.messages} | ({} if said.tools is None else {"tools": said.tools})
        text = _post_or_get(f"{root}/apply-template", body)["prompt"]
        how = {"content": text, "add_special": True, "parse_special": True}
        return Reading(row.id, text, tuple(_post_or_get(f"{root}/tokenize", how)["tokens"]))

    return list(map(one, rows))


@contextmanager
def running(command: Sequence[str], port: int, log: Path, seconds: float) -> Iterator[str]:
    """Start a server on this port of loopback and end it after; gives its address.

    Raises EnvironmentFailed when it is not ready in time.
    """
    own = {name: value for name, value in os.environ.items() if name != _KEY}  # it asks for none
    with log.open("wb") as lines:
        child = subprocess.Popen(command, stdout=lines, stderr=lines, env=own)
    try:
        _wait(child, f"http://127.0.0.1:{port}", log, seconds)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(child: "subprocess.Popen[bytes]", root: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with _open(f"{root}/health", timeout=_POLL_S * 10):
                return
        except (OSError, http.client.HTTPException):  # not up, or 503 while it loads
            pass
        code = child.poll()
        if code is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            end = f"ended with exit code {code}" if code is not None else "is still not ready"
            raise EnvironmentFailed(
                f"the server of the exported model {end}: {lines[-1] if lines else 'no word'}"
            )
        time.sleep(_POLL_S)


def _post_or_get(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with _open(request, timeout=_ANSWER_S) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip().partition("\n")[0][:300]
        raise EnvironmentFailed(f"{url} answered {error.code}: {said}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EnvironmentFailed(f"{url} did not answer: {error}") from None
