"""The ledger of looks: what is another look, what all looks spend, and what a crash leaves."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from understudy.evaluation import decision
from understudy.evaluation.looks import Workload, file_of, level, look, workload_of
from understudy.evaluation.statistics import intervals
from understudy.store.artifacts import fingerprint

OURS = Workload("closed_qa", "gpt-4o", "tiny")


def test_the_levels_of_all_looks_add_up_to_alpha_and_the_first_has_three_quarters() -> None:
    assert level(0.05, 1) == pytest.approx(0.0375)
    spent = [math.fsum(level(0.05, look) for look in range(1, last + 1)) for last in (30, 10_000)]
    assert spent == [pytest.approx(0.05 - 0.0125 / 30), pytest.approx(0.05 - 0.0125 / 10_000)]
    assert all(level(0.05, look) > level(0.05, look + 1) for look in range(1, 50))


def test_another_look_has_the_next_number_and_the_same_one_keeps_its_own(tmp_path: Path) -> None:
    first, second = {"stages": {}, "margin": 5.0}, {"stages": {}, "margin": 10.0}
    assert look(tmp_path, OURS, "run", first) == 1
    assert look(tmp_path, OURS, "run", second) == 2
    assert look(tmp_path, OURS, "again", first) == 1
    lines = [json.loads(line) for line in file_of(tmp_path, OURS).read_text().splitlines()]
    assert [line["run"] for line in lines] == ["run", "run"]
    assert lines[0]["evidence"] == first
    assert lines[0]["workload"] == {"task": "closed_qa", "service": "gpt-4o", "lineage": "tiny"}


@pytest.mark.parametrize("changed", [{"task": "coding"}, {"service": "s"}, {"lineage": "other"}])
def test_another_workload_has_a_ledger_of_its_own(tmp_path: Path, changed: Any) -> None:
    assert look(tmp_path, OURS, "run", {"margin": 5.0}) == 1
    assert look(tmp_path, OURS._replace(**changed), "run", {"margin": 10.0}) == 1


def test_a_run_and_its_gateway_are_one_workload_and_a_revision_is_of_the_lineage() -> None:
    task = {"task": {"name": "closed_qa"}}
    run = task | {"baseline": {"service": {"name": "gpt_4o", "model": "gpt-4o"}}}
    assert workload_of(run, "tiny", "gpt_4o") == OURS
    shadows = task | {"baseline": {"service": None}}
    for name in ("tiny", "tiny@0123456789ab", "tiny (local)"):
        assert workload_of(shadows, name, "gpt-4o") == OURS


def old_line(root: Path, file: str, margin: float, when: str, lineage: str | None) -> str:
    """A look as 90baa9b wrote it, of stages that are there unless `lineage` is None."""
    stages = {}
    for role, generator in (("evaluation", lineage), ("baseline", "gpt_4o")):
        stages[f"{role}.j"] = path = f"evaluation/{role}-{lineage}"
        if lineage is not None:
            (root / path / "out").mkdir(parents=True, exist_ok=True)
            (root / path / "out/summary.json").write_text(json.dumps({"generator": generator}))
            service = {"name": "gpt_4o", "model": "gpt-4o"}
            config = {"task": {"name": "closed_qa"}, "baseline": {"service": service}}
            (root / path / "config.json").write_text(json.dumps({"config": config}))
    evidence = {"stages": stages, "margin": margin, "alpha": 0.05, "metric": "precision"}
    line = {"look": fingerprint(evidence), "run": "run", "when": when, "evidence": evidence}
    (root / "looks").mkdir(exist_ok=True)
    with (root / "looks" / file).open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")
    return json.dumps(evidence)


def test_ledgers_that_were_kept_by_prompts_still_count(tmp_path: Path) -> None:
    second = old_line(tmp_path, "aaaa.jsonl", 5.0, "2026-02-01", "tiny")
    first = old_line(tmp_path, "bbbb.jsonl", 5.0, "2026-01-01", None)
    old_line(tmp_path, "cccc.jsonl", 5.0, "2026-01-02", "another")
    before = sorted((tmp_path / "looks").iterdir())
    assert look(tmp_path, OURS, "run", json.loads(first)) == 1
    assert look(tmp_path, OURS, "run", json.loads(second)) == 2
    assert sorted((tmp_path / "looks").iterdir()) == before
    assert look(tmp_path, OURS, "run", {"margin": 10.0}) == 3


def test_a_line_torn_by_a_crash_was_never_told_and_is_no_look(tmp_path: Path) -> None:
    look(tmp_path, OURS, "run", {"margin": 5.0})
    file = file_of(tmp_path, OURS)
    with file.open("a", encoding="utf-8") as torn:
        torn.write('{"look": "12')
    assert look(tmp_path, OURS, "run", {"margin": 10.0}) == 2
    assert len(file.read_text().splitlines()) == 2


def test_looks_taken_at_once_get_different_numbers(tmp_path: Path) -> None:
    numbers = list[int]()
    threads = [
        threading.Thread(target=lambda n=n: numbers.append(look(tmp_path, OURS, "run", {"m": n})))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))


# --- many looks -----------------------------------------------------------------------------------

MARGIN, SD = 5.0, 15.0


def gaussian(rng: Any, shape: tuple[int, int]) -> Any:
    return rng.normal(-MARGIN, SD, shape)


def skewed(rng: Any, shape: tuple[int, int]) -> Any:
    return -MARGIN + SD * (1 + special.log_ndtr(rng.standard_normal(shape)))


def wrong_or_right(rng: Any, shape: tuple[int, int]) -> Any:
    """0/100 scores of a service that is always right."""
    return np.where(rng.random(shape) < MARGIN / 100, -100.0, 0.0)


WORLDS = [gaussian, skewed, wrong_or_right]


def migrates(differences: Any, at: float) -> Any:
    """Which rows are decided to MIGRATE at this level: (loops, prompts) -> (loops,)."""
    ones = np.ones_like(differences)
    return intervals.exceeds(differences, ones, -MARGIN, at, decision.DRAWS, decision.SCALE)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_thirty_looks_at_data_that_grow_stay_within_alpha(world: Any) -> None:
    rng, runs = np.random.default_rng(21), 4000
    differences = world(rng, (runs, 30 * 50))
    wrong = np.zeros(runs, bool)
    shares = {}
    for number in range(1, 31):
        left = np.flatnonzero(~wrong)
        wrong[left] = migrates(differences[left, : 50 * number], level(0.05, number))
        shares[number] = wrong.mean()
    print(f"\n{world.__name__}: " + ", ".join(f"{n} looks {shares[n]:.4f}" for n in (1, 5, 10, 30)))
    assert shares[30] <= 0.055


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_adding_the_prompts_that_are_asked_for_stays_within_alpha(world: Any) -> None:
    """Each look at the number of prompts that the last estimate asks for, which the data choose."""
    rng, runs = np.random.default_rng(22), 4000
    wrong = 0
    for _ in range(runs):
        differences, prompts = world(rng, (1, 4000)), 60
        for number in range(1, 11):
            seen, at = differences[:, :prompts], level(0.05, number)
            if migrates(seen, at)[0]:
                wrong += 1
                break
            asked = level(0.05, number + 1)
            z = special.ndtri(1 - asked) + special.ndtri(0.8)
            gap = abs(seen.mean() + MARGIN)
            if not gap:  # then no number of prompts is asked for
                break
            prompts = int(min(max((z * seen.std(ddof=1) / gap) ** 2, prompts + 1), 4001))
            if prompts > 4000:
                break
    print(f"\n{world.__name__}: following the advice {wrong / runs:.4f}")
    assert wrong / runs <= 0.055
