"""Our client beside others, on one loopback server: `python tests/benchmarks/bench_client.py`.

Every client runs in a process of its own against one server process that answers judge-like calls
after a latency. Printed are throughput, CPU seconds per 1,000 calls of the client, and the shares
that we hold ourselves to. For the CPU that we add to a call, blocks of our calls and of the bare
SDK's take turns in one process: other load meets both alike. `--calls 200 --latency 0.2` is a quick
look, `--cpu-only` measures that alone.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IN_FLIGHT = 128
SPREAD = 0.5  # standard deviation of log latency
PAIRS = 8  # of a block of ours and one of the bare SDK's, each a quarter of the calls
WINDOW_S = 5.0  # over which the server holds its limit
PROMPT = "Rate the answer of the model from 0 to 100. " * 40  # as long as a judge's, about 1,800 B
VERDICT = {
    name: {"reason": "It keeps the meaning of the reference and adds nothing. " * 2, "score": 87}
    for name in ("similarity_assessment", "precision_assessment")
}


def serve(arguments: argparse.Namespace) -> None:
    """Answer like chat completions; without `/plain` limits are told by headers as well."""
    from aiohttp import web

    rng, served, refused = random.Random(0), deque[float](), list[float]()
    most = round(arguments.rpm * WINDOW_S / 60) if arguments.rpm else None

    async def complete(request: web.Request) -> web.Response:
        await request.read()
        now, headers = time.monotonic(), {"x-understudy-rehearsal": "1", "x-request-id": "r"}
        if most is not None:
            while served and served[0] <= now - WINDOW_S:
                served.popleft()
            if "plain" not in request.path:
                headers["x-ratelimit-limit-requests"] = str(arguments.rpm)
                headers["x-ratelimit-remaining-requests"] = str(max(0, most - len(served) - 1))
            if len(served) >= most:
                refused.append(now)
                headers["retry-after-ms"] = str(1000 * (served[0] + WINDOW_S - now) + 1)
                error = {"error": {"message": "Rate limit reached.", "code": "rate_limit_exceeded"}}
                return web.json_response(error, status=429, headers=headers)
            served.append(now)
        spread = SPREAD if arguments.spread else 0.0
        await asyncio.sleep(arguments.latency * rng.lognormvariate(0, spread))
        message = {"role": "assistant", "content": json.dumps(VERDICT), "refusal": None}
        body = {
            "id": "c",
            "object": "chat.completion",
            "created": 0,
            "model": "bench",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 60, "total_tokens": 460},
        }
        return web.json_response(body, headers=headers)

    async def start() -> None:
        app = web.Application()
        app.router.add_post("/{any:.*}", complete)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(start())


def ours(url: str, calls: int) -> dict[str, Any]:
    """Our client: journal, limits, ledger and budget on."""
    from understudy.config import Prices, Service
    from understudy.config.base import complete_service
    from understudy.services.account import Account
    from understudy.services.base import Request
    from understudy.services.client import ask

    base, _, variant = url.partition("#")
    prices = Prices(2.5, 10.0, date="2026-11-21", source="bench")
    names = {"name": "bench", "provider": "openai_compatible", "model": "bench", "family": "bench"}
    facts = {"terms": None, "temperature": None, "max_output_tokens": 400, "prices": prices}
    limits = {"rehearsal": True, "concurrency": IN_FLIGHT}
    service = Service(**complete_service(names | facts | limits))
    message = {"role": "user", "content": PROMPT}
    with tempfile.TemporaryDirectory(dir=".") as root:
        account = Account(Path(root) / "journal", "bench", "bench", 1000.0, f"{base}/{variant}")
        requests = (Request((message,), index) for index in range(calls))
        arrived = [time.monotonic() for _ in ask(service, requests, account)]
    assert account.counts["calls"] == calls
    return {"arrived": arrived, **account.counts}


def bare(url: str, calls: int) -> dict[str, Any]:
    """The official SDK under asyncio.gather with a semaphore."""
    return asyncio.run(_sdk(url, calls, _all_at_once))


def lock_step(url: str, calls: int) -> dict[str, Any]:
    """The official SDK in batches, each as slow as its slowest call."""
    return asyncio.run(_sdk(url, calls, _in_batches))


async def _sdk(url: str, calls: int, play: Callable[..., Awaitable[None]]) -> dict[str, Any]:
    import openai

    http = openai.DefaultAsyncHttpxClient()
    async with openai.AsyncOpenAI(
        api_key="none", base_url=f"{url}/openai/v1", max_retries=0, timeout=120, http_client=http
    ) as client:
        arrived: list[float] = []

        async def call() -> None:
            await client.chat.completions.create(
                model="bench",
                messages=[{"role": "user", "content": PROMPT}],
                max_completion_tokens=400,
            )
            arrived.append(time.monotonic())

        await play(call, calls)
    return {"arrived": arrived}


async def _all_at_once(call: Callable[[], Awaitable[None]], calls: int) -> None:
    semaphore = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with semaphore:
            await call()

    await asyncio.gather(*(one() for _ in range(calls)))


async def _in_batches(call: Callable[[], Awaitable[None]], calls: int) -> None:
    for start in range(0, calls, IN_FLIGHT):
        await asyncio.gather(*(call() for _ in range(min(IN_FLIGHT, calls - start))))


def inspect(url: str, calls: int) -> dict[str, Any]:
    """Inspect's model client, where inspect-ai is installed."""
    from inspect_ai.model import GenerateConfig, get_model

    async def all_calls() -> list[float]:
        config = GenerateConfig(max_connections=IN_FLIGHT, max_retries=0, max_tokens=400)
        base_url = f"{url}/openai/v1"
        own = {"api_key": "none", "responses_api": False}
        model = get_model("openai/bench", base_url=base_url, config=config, **own)
        arrived: list[float] = []

        async def one() -> None:
            await model.generate(PROMPT)
            arrived.append(time.monotonic())

        await asyncio.gather(*(one() for _ in range(calls)))
        return arrived

    return {"arrived": asyncio.run(all_calls())}


def paired(url: str, calls: int) -> dict[str, Any]:
    """Milliseconds of CPU of a call, all threads together, block by block in the order ABBA."""
    cpu_ms: dict[str, list[float]] = {"ours": [], "bare": []}
    for play in (ours, bare):  # warms up
        play(url, IN_FLIGHT)
    for pair in range(PAIRS):
        for name in sorted(cpu_ms, reverse=pair % 2 == 1):
            gc.collect()
            used = time.process_time()
            CLIENTS[name](url, calls // 4)
            cpu_ms[name].append(1000 * (time.process_time() - used) / (calls // 4))
    return {"arrived": [time.monotonic()], **cpu_ms}


CLIENTS = {"paired": paired, "ours": ours, "bare": bare, "lock_step": lock_step, "inspect": inspect}


@contextmanager
def server(*options: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.communicate()


def measure(client: str, url: str, calls: int, python: str = sys.executable) -> dict[str, Any]:
    """What a client did, from a process of its own; its imports do not count."""
    command = [python, __file__, "--client", client, "--url", url, "--calls", str(calls)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(told.splitlines()[-1])
    return result


def run_client(arguments: argparse.Namespace) -> None:
    import openai  # noqa: F401  not part of what is measured

    if arguments.client in ("ours", "paired"):
        import understudy.services.client
        import understudy.services.providers.openai.calls  # noqa: F401
    began, used = time.monotonic(), time.process_time()
    result = CLIENTS[arguments.client](arguments.url, arguments.calls)
    result["cpu_s"] = time.process_time() - used
    result["seconds"] = result["arrived"][-1] - began
    result["arrived"] = [at - began for at in result["arrived"]]
    print(json.dumps(result))


def line(name: str, calls: int, result: dict[str, Any], beside: dict[str, Any] | None) -> None:
    rate, cpu = calls / result["seconds"], 1000 * result["cpu_s"] / calls
    share = f"{100 * beside['seconds'] / result['seconds']:6.1f} %" if beside else ""
    print(f"{name:<34}{rate:9.1f}/s{cpu:9.2f} s{share:>12}", flush=True)


def added_cpu(url: str, calls: int) -> None:
    """The median of the pairs' differences, and their quartiles."""
    told = measure("paired", url, calls)
    added = list(map(float.__sub__, told["ours"], told["bare"]))
    low, median, high = statistics.quantiles(added, n=4, method="inclusive")
    spread = f"quartiles {low:.2f} to {high:.2f} of {PAIRS} pairs"
    print(f"{'CPU that we add to a call':<34}{median:9.2f} ms, {spread}", flush=True)


def main(arguments: argparse.Namespace) -> None:
    calls, latency, rpm = arguments.calls, str(arguments.latency), arguments.rpm or 2400
    print(f"{calls} calls, {IN_FLIGHT} in flight, {latency} s; CPU per 1,000 calls; share of bare")
    with server("--latency", latency) as url:
        added_cpu(url, calls)
        if arguments.cpu_only:
            return
        bare_ = measure("bare", url, calls)
        ours_ = measure("ours", url, calls)
        again = measure("bare", url, calls)
        bare_ = min(bare_, again, key=lambda result: float(result["seconds"]))
        line("official SDK, gather + semaphore", calls, bare_, None)
        line("ours: journal, limits, ledger", calls, ours_, bare_)
        if has_inspect(arguments.inspect):
            told = measure("inspect", url, calls, arguments.inspect)
            line("inspect-ai", calls, told, bare_)
        else:
            print("inspect-ai: not measured; --inspect PYTHON names one that can import it")
    with server("--latency", latency, "--spread") as url:
        print(f"log-normal latencies, median {latency} s, standard deviation of the log {SPREAD}")
        step = measure("lock_step", url, calls)
        line("lock-step batches", calls, step, None)
        ours_ = measure("ours", url, calls)
        line("ours", calls, ours_, None)
        print(f"{'  times as fast':<34}{step['seconds'] / ours_['seconds']:9.2f}")
    for variant, words in (("openai", "told by headers"), ("plain", "told by 429s alone")):
        with server("--latency", "0.2", "--rpm", str(rpm)) as url:
            limited(f"{url}#{variant}", words, rpm)


def has_inspect(python: str) -> bool:
    done = subprocess.run([python, "-c", "import inspect_ai"], capture_output=True)
    return done.returncode == 0


def limited(url: str, words: str, rpm: int) -> None:
    """Eight windows' worth of calls under an enforced limit; the first window is a free burst."""
    result = measure("ours", url, round(8 * rpm * WINDOW_S / 60))
    late = [at for at in result["arrived"] if at > WINDOW_S]
    rate = 60 * (len(late) - 1) / (late[-1] - late[0])
    print(
        f"{rpm} requests per minute, {words}: {100 * rate / rpm:.1f} % of the allowed rate, "
        f"{result.get('busy', 0)} 429s, {result['cuts']} cuts"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--rpm", type=int, help="requests per minute of the limited server")
    parser.add_argument("--spread", action="store_true", help="log-normal latencies")
    parser.add_argument("--inspect", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--cpu-only", action="store_true")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--client", choices=list(CLIENTS))
    parser.add_argument("--url")
    chosen = parser.parse_args()
    serve(chosen) if chosen.serve else run_client(chosen) if chosen.client else main(chosen)
