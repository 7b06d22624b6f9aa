"""The whole circle, offline: record → collect → run → decide → export → serve → split → local.

Then a roll-back under load, and a service that dies under load.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.gateways import until
from understudy.playground import generate
from understudy.rehearsal.server import RehearsalServer

pytestmark = pytest.mark.slow

ROWS = 200
DEADLINE_S = 5
MOVE = [
    *("task=classification", "coverage=file", "coverage.split.validation=20"),
    *("coverage.split.test=50", "coverage.split.holdout=70", "gate=noninferiority"),
    *("data_size=250", "evaluation.m=2", "inference.k=2", "run.name=move"),
]


def understudy(root: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "understudy", *words],
        capture_output=True, text=True, timeout=900,
        env=os.environ | {"UNDERSTUDY_ROOT": str(root)},
    )  # fmt: skip
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(root: Path, *words: str) -> Iterator[str]:
    """A verb that serves, and the URL that it prints first."""
    with subprocess.Popen(
        [sys.executable, "-m", "understudy", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"UNDERSTUDY_ROOT": str(root)},
    ) as running:  # fmt: skip
        try:
            assert running.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", running.stdout.readline())
            assert found is not None, running.communicate()[1]
            until(lambda: is_up(found[0]), 60)
            yield found[0]
        finally:
            running.terminate()
            running.communicate(timeout=60)


def is_up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def asked(url: str, prompts: list[str]) -> Counter[str]:
    """Who answered the prompts; all of them are answered."""
    by: Counter[str] = Counter()
    with httpx2.Client(trust_env=False, timeout=60.0) as web:
        for prompt in prompts:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": prompt}]}
            reply = web.post(f"{url}/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            assert reply.json()["choices"][0]["message"]["content"]
            by[reply.headers["x-understudy-by"]] += 1
    return by


def under_load(url: str, prompts: list[str], act: Callable[[], object]) -> list[tuple[str, float]]:
    """Who answered eight clients at once, and after how many seconds; `act` comes in between."""

    def one(prompt: str) -> tuple[str, float]:
        began = time.monotonic()
        (by,) = asked(url, [prompt])
        return by, time.monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(one, prompt) for prompt in prompts]
        until(lambda: sum(call.done() for call in calls) > len(calls) // 4, 60)
        act()
        return [call.result() for call in calls]


def test_from_recorded_traffic_to_a_local_model_that_takes_it_over(tmp_path: Path) -> None:
    prompts = [pair.instruction for pair in generate("classification", 7, 0, ROWS)]
    fresh = [pair.instruction for pair in generate("classification", 8, 0, 60)]
    with ExitStack() as service:
        star = service.enter_context(RehearsalServer())
        gateway = (f"rehearsal.url={star.url}", "gateway.service=gpt_4o", "gateway.port=0")
        with serving(tmp_path, "gateway", *gateway) as url:
            assert asked(url, prompts) == {"service": ROWS}
        logs = sorted(map(str, tmp_path.glob("rehearsal/gateway/pairs/*.jsonl")))
        coverage = str(tmp_path / "coverage.jsonl")
        understudy(tmp_path, "collect", *logs, "--out", coverage, "--task", "classification")
        assert len(Path(coverage).read_text(encoding="utf-8").splitlines()) == ROWS

        understudy(tmp_path, "run", *MOVE, f"coverage.path={coverage}")
        assert "MIGRATE" in understudy(tmp_path, "decide", "move")
        model = str(tmp_path / "model")
        understudy(tmp_path, "export", "move", "--to", model)

        with (
            serving(tmp_path, "serve", model, "--port", "0") as local,
            serving(tmp_path, "serve", model, "--port", "0") as other,
            serving(tmp_path, "gateway", *gateway, f"gateway.deadline_s={DEADLINE_S}") as url,
        ):
            for change, wanted in (
                (("mode=split", "share=50"), {"service", "local"}),
                (("mode=local",), {"local"}),
            ):
                where = f"local={local}/v1"
                assert "in force" in understudy(tmp_path, "gateway", "set", where, *change)
                assert set(asked(url, fresh)) == wanted
            assert len(logged(tmp_path)) == ROWS + 2 * len(fresh)
            paid = sum(line["microusd"] for line in logged(tmp_path))
            assert paid == star.bill().microusd > 0

            def back() -> None:
                assert f"{local}/v1" in understudy(tmp_path, "gateway", "rollback")

            understudy(tmp_path, "gateway", "set", f"local={other}/v1")
            assert {by for by, _ in under_load(url, prompts, back)} == {"local"}

            understudy(tmp_path, "gateway", "set", "mode=failover")
            found = under_load(url, prompts, service.close)
            assert {by for by, _ in found} == {"service", "local"}
            assert max(seconds for _, seconds in found) < DEADLINE_S + 1


def logged(root: Path) -> list[dict[str, Any]]:
    """The gateway's requests."""
    return [
        json.loads(line)
        for path in root.glob("rehearsal/gateway/requests/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
