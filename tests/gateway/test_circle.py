"""The whole circle, offline: record → collect → run → decide → export → serve → split → local.

Then a roll-back under load, and a service that dies under load. The trained run also shows what
`decide` looks at: rounds screen on test, the holdout is looked at once.
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
from typing import Any, NamedTuple

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
    *("data_size=250", "evaluation.m=2", "inference.k=2"),
]

PROMPTS = [pair.instruction for pair in generate("classification", 7, 0, ROWS)]


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


class Moved(NamedTuple):
    """A run on recorded traffic, and the service that was asked."""

    root: Path
    coverage: str
    star: RehearsalServer
    service: ExitStack  # that ends it

    @property
    def gateway(self) -> tuple[str, ...]:
        """The words that start a gateway before it."""
        where = f"rehearsal.url={self.star.url}"
        return "gateway", where, "gateway.service=gpt_4o", "gateway.port=0"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    root = tmp_path_factory.mktemp("circle")
    with ExitStack() as service:
        star = service.enter_context(RehearsalServer())
        found = Moved(root, str(root / "coverage.jsonl"), star, service)
        with serving(root, *found.gateway) as url:
            assert asked(url, PROMPTS) == {"service": ROWS}
        logs = sorted(map(str, root.glob("rehearsal/gateway/pairs/*.jsonl")))
        understudy(root, "collect", *logs, "--out", found.coverage, "--task", "classification")
        assert len(Path(found.coverage).read_text(encoding="utf-8").splitlines()) == ROWS
        told = understudy(root, "run", *MOVE, f"coverage.path={found.coverage}", "run.name=move")
        assert "understudy decide move" in told
        yield found


def test_rounds_leave_the_holdout_alone_and_the_same_evidence_is_one_look(moved: Moved) -> None:
    root = moved.root
    record = json.loads((root / "rehearsal/run/move/run.json").read_text())
    stages = record["holdout"]["stages"]
    assert set(stages) == {"inference", "baseline", "evaluation.offline", "baseline.offline"}
    assert "holdout" not in "".join(record["stages"])

    for _ in range(2):
        assert "MIGRATE" in understudy(root, "decide", "move")
    looks = [x for path in root.rglob("looks/*.jsonl") for x in path.read_text().splitlines()]
    assert len(looks) == 1

    raw = ("trainer=none", "data_size=0", "run.name=raw", f"coverage.path={moved.coverage}")
    assert "not passed" in understudy(root, "run", *MOVE, *raw)
    assert "NOT YET" in understudy(root, "decide", "raw", code=1)


def test_from_recorded_traffic_to_a_local_model_that_takes_it_over(moved: Moved) -> None:
    root, star = moved.root, moved.star
    fresh = [pair.instruction for pair in generate("classification", 8, 0, 60)]
    assert "MIGRATE" in understudy(root, "decide", "move")
    model = str(root / "model")
    understudy(root, "export", "move", "--to", model)

    with (
        serving(root, "serve", model, "--port", "0") as local,
        serving(root, "serve", model, "--port", "0") as other,
        serving(root, *moved.gateway, f"gateway.deadline_s={DEADLINE_S}") as url,
    ):
        for change, wanted in (
            (("mode=split", "share=50"), {"service", "local"}),
            (("mode=local",), {"local"}),
        ):
            where = f"local={local}/v1"
            assert "in force" in understudy(root, "gateway", "set", where, *change)
            assert set(asked(url, fresh)) == wanted
        assert len(logged(root)) == ROWS + 2 * len(fresh)
        paid = sum(line["microusd"] for line in logged(root))
        assert paid == star.bill().microusd > 0

        def back() -> None:
            assert f"{local}/v1" in understudy(root, "gateway", "rollback")

        understudy(root, "gateway", "set", f"local={other}/v1")
        assert {by for by, _ in under_load(url, PROMPTS, back)} == {"local"}

        understudy(root, "gateway", "set", "mode=failover")
        found = under_load(url, PROMPTS, moved.service.close)
        assert {by for by, _ in found} == {"service", "local"}
        assert max(seconds for _, seconds in found) < DEADLINE_S + 1


def logged(root: Path) -> list[dict[str, Any]]:
    """The gateway's requests."""
    return [
        json.loads(line)
        for path in root.glob("rehearsal/gateway/requests/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
