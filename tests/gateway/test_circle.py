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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import openai
import pytest

from support.gateways import gateway, stage, until
from understudy.playground import generate, tools
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
    return done.stdout + done.stderr


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


@dataclass(frozen=True)
class Rehearsed:
    """How large a circle with tools is, and what it must reach."""

    rows: int
    held: tuple[int, int, int]  # validation, test, holdout
    steps: int
    least: float  # precision right after training
    choice: str  # of tools: a model that has learnt little must be made to call
    code: int  # of decide


# A model that has seen almost nothing calls what the schemas let it; a trained one the right tools.
SHORT = Rehearsed(56, (4, 4, 24), 2, 0.0, "required", 1)
LONG = Rehearsed(960, (32, 64, 64), 500, 80.0, "auto", 0)


@pytest.mark.parametrize("size", [SHORT, pytest.param(LONG, marks=pytest.mark.soak)])
def test_from_recorded_tool_calls_to_a_local_model_that_makes_them(
    tmp_path: Path, size: Rehearsed
) -> None:
    errands = {one.instruction: list(one.calls) for one in tools.generate(7, 0, 2 * size.rows + 99)}
    recorded, fresh = list(errands)[: size.rows], list(errands)[size.rows :][:20]
    with ExitStack() as service:
        star = service.enter_context(stage(calls=errands.__getitem__))
        with gateway(tmp_path / "gateway", star.url) as running:
            for number, prompt in enumerate(recorded):
                assert called(running.url, prompt, number % 2 == 0)[1] == errands[prompt]
        logs = sorted(map(str, (tmp_path / "gateway").glob("pairs/*.jsonl")))
        coverage = str(tmp_path / "coverage.jsonl")
        understudy(tmp_path, "collect", *logs, "--out", coverage, "--task", "tools")
        rows = [json.loads(line) for line in Path(coverage).read_text("utf-8").splitlines()]
        assert len(rows) == size.rows
        assert all(row["tools"] and row["messages"][-1]["tool_calls"] for row in rows)

        validation, test, holdout = size.held
        move = [
            *("experiment=tools", "coverage=file", f"coverage.path={coverage}", "run.name=move"),
            *("coverage.rows=null", f"coverage.split.validation={validation}"),
            *(f"coverage.split.test={test}", f"coverage.split.holdout={holdout}"),
            *("gate=noninferiority", "gate.margin=50", f"trainer.max_steps={size.steps}"),
            *("baseline=gpt_4o", "service@baseline.service=openai_compatible"),
            *(f"baseline.service.base_url={star.url}", "baseline.service.model=star-1"),
        ]
        understudy(tmp_path, "run", *move)
        assert precision(tmp_path, "move") >= size.least
        decided = understudy(tmp_path, "decide", "move", code=size.code)
        assert ("MIGRATE" in decided) == (size.code == 0)
        model = str(tmp_path / "model")
        understudy(tmp_path, "export", "move", "--to", model)

        with serving(tmp_path, "serve", model, "--port", "0") as local:
            for mode in ("split", "failover"):
                settings: Any = {"mode": mode, "share": 50.0, "local": f"{local}/v1"}
                with gateway(tmp_path / mode, star.url, deadline_s=60.0, **settings) as running:
                    if mode == "failover":
                        service.close()
                    by = Counter[str]()
                    for number, prompt in enumerate(fresh):
                        who, calls = called(running.url, prompt, number % 2 == 0, size.choice)
                        by[who] += 1
                        known = {tool["function"]["name"] for tool in tools.TOOLS}
                        assert who == "local" or calls == errands[prompt]
                        assert size is LONG or {name for name, _ in calls} <= known
                        assert calls or size is LONG
                    assert set(by) == ({"service", "local"} if mode == "split" else {"local"})


def called(
    url: str, prompt: str, is_streamed: bool, choice: Any = "auto"
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Who answered, and the calls that OpenAI's own client reads from it."""
    with openai.OpenAI(api_key="any", base_url=f"{url}/v1", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="star-1",
            messages=[{"role": "user", "content": prompt}],
            tools=tools.TOOLS,  # type: ignore[arg-type]
            tool_choice=choice,
            max_tokens=200,
            stream=is_streamed,
        )
        made: Any = raw.parse()
        if is_streamed:
            deltas = [one.choices[0].delta for one in made if one.choices]
            found = [call for delta in deltas for call in delta.tool_calls or ()]
        else:
            found = made.choices[0].message.tool_calls or []
        calls = [(one.function.name, json.loads(one.function.arguments)) for one in found]
        return raw.headers["x-understudy-by"], calls


def precision(root: Path, name: str) -> float:
    """Of the local answers to the test prompts."""
    found = json.loads((root / "run" / name / "run.json").read_text(encoding="utf-8"))
    place = root / found["rounds"][-1]["stages"]["evaluation.tool_calls"]
    summary = json.loads((place / "out" / "summary.json").read_text(encoding="utf-8"))
    mean: float = summary["precision"]["mean"]
    return mean
