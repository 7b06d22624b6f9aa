"""`understudy serve` beside `transformers serve`: `python tests/benchmarks/bench_serve.py`.

Both serve the shipped tiny model on a CPU, one after the other, each in a process of its own; the
same streamed requests, of the same prompts and numbers of tokens, come from the same client at 8
and at 32 in flight. Printed are tokens per second and the time to the first token, the better of
`--rounds` for each server, which take turns, and which fields of a request each of them honours:
one that is ignored comes with status 200 and the answer to another question. `transformers serve`
needs `transformers[serving]`; `--transformers PYTHON` names an interpreter that has it.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from understudy import locations

MODEL = locations.model("package:tiny")
TOKENS = 48
WORDS = "colour of the sky over the garden in the morning and in the evening of a Friday"


@dataclass
class Measured:
    """What one server did with the requests of one round."""

    tokens: int
    seconds: float
    first: list[float]  # seconds to the first token
    cpu: float  # seconds of the server's process

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def prompts(count: int) -> list[str]:
    """Questions of different lengths, the same in each round."""
    words = WORDS.split()
    return [f"What is the {' '.join(words[: 1 + n % len(words)])}, {n}?" for n in range(count)]


async def ask(client: httpx2.AsyncClient, model: str, prompt: str) -> tuple[int, float]:
    """Stream one answer; its tokens, and seconds to the first."""
    body = {
        **{"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True},
        **{"max_tokens": TOKENS, "temperature": 0.0, "stream_options": {"include_usage": True}},
        "logit_bias": None,
    }
    began, first, tokens = time.monotonic(), None, None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line[6:])
            for choice in event["choices"]:
                if first is None and choice["delta"].get("content"):
                    first = time.monotonic() - began
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    assert first is not None, "no token came"
    assert tokens is not None, "no usage came"
    return tokens, first


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def play(url: str, model: str, in_flight: int, count: int, pid: int) -> Measured:
    """All requests, `in_flight` at a time, to the server in process `pid`."""
    free = asyncio.Semaphore(in_flight)
    async with httpx2.AsyncClient(base_url=url, timeout=600) as client:

        async def one(prompt: str) -> tuple[int, float]:
            async with free:
                return await ask(client, model, prompt)

        await ask(client, model, "Are you there?")  # warms up
        began, used = time.monotonic(), cpu_seconds(pid)
        found = await asyncio.gather(*(one(prompt) for prompt in prompts(count)))
        seconds, used = time.monotonic() - began, cpu_seconds(pid) - used
    tokens = sum(tokens for tokens, _ in found)
    return Measured(tokens, seconds, [first for _, first in found], used)


QUESTION = [{"role": "user", "content": "What is the colour of the sky?"}]


def honoured(url: str, model: str) -> dict[str, bool]:
    """Field → whether the answer is as the field asks, or the request is refused in words."""

    def post(**fields: Any) -> tuple[int, Any]:
        body = {"model": model, "messages": QUESTION, "temperature": 0.0, "max_tokens": 16}
        response = httpx2.post(f"{url}/v1/chat/completions", json=body | fields, timeout=120)
        return response.status_code, response.json() if response.status_code == 200 else None

    def text(**fields: Any) -> str | None:
        status, told = post(**fields)
        return str(told["choices"][0]["message"]["content"]) if status == 200 else None

    greedy = text()
    assert greedy is not None, "no answer at all"
    hot = {"temperature": 2.0, "max_tokens": 32}
    dull = {"messages": [{"role": "user", "content": "the " * 300}]}  # its answer repeats itself
    repeated, most = text(**dull), {"presence_penalty": 2.0, "frequency_penalty": 2.0}
    same = text(**hot, seed=3)
    _, several = post(n=2)
    _, scored = post(logprobs=True, top_logprobs=2)
    return {
        "temperature": same is not None and not same.startswith(greedy),
        "seed": same == text(**hot, seed=3) != text(**hot, seed=4),
        "top_p": text(temperature=2.0, top_p=1e-6) == greedy != text(temperature=2.0),
        "stop": text(stop=greedy[5:9]) == greedy[:5],
        "n": several is not None and len(several["choices"]) == 2,
        "logprobs": bool(scored and scored["choices"][0].get("logprobs")),
        "penalties": not {text(**most), text(**dull, **most)} <= {None, greedy, repeated},
        "logit_bias": text(logit_bias={str(n): -100 for n in range(300)}) not in (None, greedy),
        "tools": post(tools=[{"type": "function", "function": {"name": "f"}}])[0] == 400,
        "response_format": post(response_format={"type": "json_object"})[0] == 400,
        "context": post(messages=[{"role": "user", "content": "the " * 1200}])[0] == 400,
    }


@contextmanager
def server(command: list[str], port: int) -> Iterator[int]:
    """Run until it is healthy, and while the block runs; yields its process id."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "hub").mkdir()
        own = {"HF_HUB_OFFLINE": "1", "HF_HOME": home}
        log = Path(home) / "log.txt"
        with log.open("w") as output:
            child = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **own}
            )
        try:
            while not is_healthy(port):
                assert child.poll() is None, log.read_text()[-2000:]
                time.sleep(0.2)
            yield child.pid
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def commands(python: str | None, port: int) -> dict[str, tuple[list[str], str]]:
    """Name of a server → its command, and the name that it gives the model."""
    at = ("--host", "127.0.0.1", "--port", str(port))
    path = str(MODEL)
    ours = [sys.executable, "-m", "understudy", "serve", path, *at]
    found: dict[str, tuple[list[str], str]] = {"understudy serve": (ours, MODEL.name)}
    if python is not None:
        theirs = [python, "-m", "transformers.cli.transformers", "serve", path, *at]
        theirs += ["--device", "cpu", "--dtype", "float32"]  # fp16, its own choice, is slower
        found["transformers serve"] = (theirs, path)
        found["  with --continuous-batching"] = ([*theirs, "--continuous-batching"], path)
    return found


def main(arguments: argparse.Namespace) -> None:
    python = arguments.transformers
    if python is None:
        print("transformers serve: not measured; --transformers PYTHON names one that has it")
    best: dict[tuple[str, int], Measured] = {}
    fields: dict[str, dict[str, bool]] = {}
    failed: dict[str, str] = {}
    for _ in range(arguments.rounds):
        port = free_port()
        for name, (command, model) in commands(python, port).items():
            if name in failed:
                continue
            try:
                with server(command, port) as pid:
                    if name not in fields:
                        fields[name] = honoured(f"http://127.0.0.1:{port}", model)
                    for in_flight in arguments.in_flight:
                        url = f"http://127.0.0.1:{port}"
                        made = asyncio.run(play(url, model, in_flight, arguments.requests, pid))
                        old = best.get((name, in_flight))
                        if old is None or made.rate > old.rate:
                            best[name, in_flight] = made
            except AssertionError as error:
                failed[name] = str(error).strip().splitlines()[-1][:200]
    show(best, fields, arguments)
    for name, why in failed.items():
        print(f"{name}: not measured: {why}")


def show(
    best: dict[tuple[str, int], Measured],
    fields: dict[str, dict[str, bool]],
    arguments: argparse.Namespace,
) -> None:
    """Rates, latencies, how many times another's rate ours is, and the fields honoured."""
    print(
        f"{arguments.requests} streamed requests, up to {TOKENS} tokens each, greedy; "
        f"the better of {arguments.rounds} rounds, OMP_NUM_THREADS="
        f"{os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    head = f"{'tokens/s':>10}{'CPU s/1,000':>13}{'first token, median':>21}{'p95':>9}{'ours':>8}"
    print(f"{'':<32}{'in flight':>10}{head}")
    for (name, in_flight), made in best.items():
        median = 1000 * statistics.median(made.first)
        high = 1000 * statistics.quantiles(made.first, n=20, method="inclusive")[-1]
        times = best["understudy serve", in_flight].rate / made.rate
        cpu = 1000 * made.cpu / made.tokens
        print(
            f"{name:<32}{in_flight:>10}{made.rate:>10.0f}{cpu:>13.2f}{median:>18.0f} ms"
            f"{high:>6.0f} ms{times:>7.1f}x"
        )
    for name, found in fields.items():
        kept = ", ".join(field for field, is_so in found.items() if is_so)
        lost = ", ".join(field for field, is_so in found.items() if not is_so)
        print(f"{name.strip()} honours, or refuses in words: {kept or 'none'}")
        print(f"  ignores or breaks on: {lost or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--transformers", metavar="PYTHON")
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[8, 32])
    main(parser.parse_args())
