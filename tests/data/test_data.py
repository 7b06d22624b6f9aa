"""Splits by group, subsets nested, ids unique."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from understudy.config import Config, Split, changed
from understudy.data import card, coverage, naming, subset
from understudy.data.split import split
from understudy.errors import BadInput
from understudy.records import Coverage, Synthetic, read_rows
from understudy.store.artifacts import Job, RowLog


def row(number: int, group: str, given_split: str | None = None) -> Coverage:
    messages = [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": f"answer {number}"},
    ]
    return Coverage(str(number), group, messages, "t", None, "test", given_split)  # type: ignore[arg-type]


groups = st.lists(st.integers(0, 40), min_size=12, max_size=120)
sizes = st.builds(
    Split,
    validation=st.sampled_from([0, 0.1, 0.2, 3]),
    test=st.sampled_from([0.1, 0.3, 2]),
    holdout=st.sampled_from([0, 0.1, 2]),
)


@given(groups, sizes, st.integers(0, 5))
def test_no_group_straddles_a_split_and_every_row_has_one(
    lineage: list[int], shares: Split, seed: int
) -> None:
    rows = [row(i, f"g{g}") for i, g in enumerate(lineage)]
    try:
        drawn = split(rows, shares, seed)
    except BadInput:  # so few groups that train is empty
        return
    assert [r.id for r in drawn] == [r.id for r in rows]
    by_group: dict[str, set[str | None]] = {}
    for r in drawn:
        by_group.setdefault(r.group_id, set()).add(r.split)
    assert all(len(splits) == 1 and None not in splits for splits in by_group.values())
    assert split(list(reversed(rows)), shares, seed) == list(reversed(drawn))
    if shares.holdout == 0:
        assert not any(r.split == "holdout" for r in drawn)


@given(st.integers(40, 200), st.integers(0, 3))
def test_sizes_are_met_exactly_when_every_row_is_its_own_group(count: int, seed: int) -> None:
    rows = [row(i, str(i)) for i in range(count)]
    drawn = split(rows, Split(validation=0.1, test=7, holdout=0), seed)
    counts = [sum(r.split == name for r in drawn) for name in ("validation", "test", "train")]
    assert counts == [round(count * 0.1), 7, count - 7 - round(count * 0.1)]


def test_the_users_own_split_wins() -> None:
    rows = [row(i, str(i), "test" if i < 3 else "train" if i < 6 else None) for i in range(10)]
    drawn = split(rows, Split(validation=2, test=1, holdout=0), 0)
    assert [r.split for r in drawn[:6]] == ["test"] * 3 + ["train"] * 3
    assert sum(r.split == "validation" for r in drawn) == 2


def test_a_split_that_leaves_nothing_to_train_on_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="leaves no train row of 4"):
        split([row(i, str(i)) for i in range(4)], Split(validation=2, test=2, holdout=0), 0)


def test_ids_tell_equal_conversations_apart() -> None:
    same = [{"role": "user", "content": "a"}]
    ids = naming.row_ids([same, [{"role": "user", "content": "b"}], same])
    assert len(set(ids)) == 3
    assert ids[0].split("-")[0] == ids[2].split("-")[0]


def job(config: Config, at: Path, **inputs: Path) -> Job:
    for name in ("out", "scratch"):
        (at / name).mkdir(parents=True)
    return Job(config, {}, inputs, at / "out", at / "scratch")


def test_the_playground_is_a_coverage_source(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    made = job(composed("coverage.rows=50", "task=coding"), tmp_path / "a")
    coverage.run(made)
    rows = list(read_rows(made.out / "rows.jsonl", Coverage))
    assert len({r.id for r in rows}) == len({r.instruction for r in rows}) == 50
    assert {r.task for r in rows} == {"coding"}


def test_an_unknown_task_is_refused_with_the_choices(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    config = changed(composed(), {"task.name": "poetry"})
    with pytest.raises(BadInput, match=r"poetry.*summarization, classification"):
        coverage.run(job(config, tmp_path / "a"))


def synthetic(block: int, count: int) -> list[Synthetic]:
    human = row(0, "g", "train").to_dict()
    return [
        Synthetic(
            **human | {"id": f"s{block}-{i}"},
            seed_id="0",
            block=block,
            call_id=i,
            depth=1,
            teacher="t",
        )
        for i in range(count)
    ]


@pytest.fixture
def subset_of(composed: Callable[..., Config], tmp_path: Path) -> Callable[..., Path]:
    """Make the training set of a size: 4 human train rows and a pool of 250."""
    human = [row(i, str(i), "train" if i else "test") for i in range(5)]
    inputs = {}
    contents: dict[str, list[Coverage]] = {
        "split": list(human),
        "block.0": list(synthetic(0, 125)),
        "block.1": list(synthetic(1, 125)),
    }
    for role, rows in contents.items():
        inputs[role] = tmp_path / role
        inputs[role].mkdir()
        log: RowLog[Coverage] = RowLog(inputs[role], type(rows[0]))
        log.append(rows)
        log.finish()
        pool = {"rows": 125, "dropped": {"held_out_run": 2, "length": 1}}
        (inputs[role] / "summary.json").write_text(json.dumps(pool))

    def make(size: int, *overrides: str) -> Path:
        at = tmp_path / f"o{size}"
        at.mkdir()
        subset.run(Job(composed(*overrides), {"data_size": size}, inputs, at, tmp_path))
        return at

    return make


def ids_of(at: Path) -> set[str]:
    return {json.loads(line)["id"] for line in (at / "rows.jsonl").read_text().splitlines()}


def test_subsets_are_nested_and_keep_every_human_row(subset_of: Callable[..., Path]) -> None:
    ids = {size: ids_of(subset_of(size)) for size in (0, 100, 125, 200)}
    for size, found in ids.items():
        assert len(found) == 4 + size
        assert {"1", "2", "3", "4"} <= found
    assert ids[0] < ids[100] < ids[125] < ids[200]
    assert {i for i in ids[125] if i.startswith("s0")} == ids[125] - ids[0]


def test_the_papers_prefixes_are_the_pool_in_its_order_and_the_human_rows_last(
    subset_of: Callable[..., Path],
) -> None:
    prefix = "loop.subsets=prefix"
    assert ids_of(subset_of(0, prefix)) == {"1", "2", "3", "4"}
    assert ids_of(subset_of(100, prefix)) == {f"s0-{i}" for i in range(100)}
    assert len(ids_of(subset_of(252, prefix)) - {"1", "2"}) == 250
    with pytest.raises(BadInput, match="the pool has 250 accepted rows: 46 are missing"):
        subset_of(300, prefix)


def test_a_training_set_says_how_many_of_its_rows_repeat_a_held_out_one(
    subset_of: Callable[..., Path],
) -> None:
    at = subset_of(100)
    summary = json.loads((at / "summary.json").read_text())
    report = [json.loads(line) for line in (at / "contaminated.jsonl").read_text().splitlines()]
    assert summary == {
        **{"rows": 104, "human": 4, "synthetic": 100, "leaks_refused": 4},
        **{"contaminated": 100, "contaminated_human": 0, "contaminated_synthetic": 100},
    }
    reasons = {(line["reason"], line["against"]) for line in report}
    assert (len(report), reasons) == (100, {("held_out_instruction", "0")})
    clean = json.loads((subset_of(0) / "summary.json").read_text())
    assert (clean["contaminated"], clean["rows"]) == (0, 4)


def test_the_card_of_a_training_set_names_licences_and_the_teachers_terms() -> None:
    human = [row(i, str(i), "train") for i in range(3)]
    terms = {"t": "https://example.com/terms"}
    text = card.card(human, synthetic(0, 2), terms)
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == (human[0].licence or "other").lower()
    assert "synthetic" in front["tags"]
    assert "| 2 | t | https://example.com/terms |" in text
    assert "| 2 | t | not given |" in card.card(human, synthetic(0, 2), {})
    assert "synthetic" not in yaml.safe_load(card.card(human, [], {}).split("---")[1])["tags"]


@pytest.mark.parametrize("seed", range(10))
def test_any_sizes_nest_whatever_order_the_rows_come_in(seed: int) -> None:
    rng = random.Random(seed)
    pool = [made for block in range(3) for made in synthetic(block, 40)]
    shuffled = rng.sample(pool, len(pool))
    small, large = sorted(rng.sample(range(len(pool) + 1), 2))
    first = subset.first_by_rank(pool, small)
    assert first == subset.first_by_rank(shuffled, small)
    assert first == subset.first_by_rank(shuffled, large)[:small]
    without_last = [made for made in shuffled if made.block < 2]
    assert subset.first_by_rank(without_last, min(small, 80)) == first[:80]


@pytest.mark.parametrize(
    ("usd", "price"),
    [(0.25, "would cost about $0.15 at $0.005000 a row"), (None, "cost is not known")],
)
def test_more_rows_than_there_are_fail_with_what_is_missing_and_its_price(
    usd: float | None, price: str, composed: Callable[..., Config], tmp_path: Path
) -> None:
    inputs = {"split": tmp_path / "split", "block.0": tmp_path / "block"}
    contents: dict[str, list[Coverage]] = {
        "split": [row(0, "g", "train")],
        "block.0": list(synthetic(0, 50)),
    }
    for role, at in inputs.items():
        at.mkdir()
        log: RowLog[Coverage] = RowLog(at, type(contents[role][0]))
        log.append(contents[role])
        log.finish()
    summary = {"rows": 50, "dropped": {}, "usd": usd}
    (inputs["block.0"] / "summary.json").write_text(json.dumps(summary))
    made = Job(composed(), {"data_size": 80}, inputs, tmp_path, tmp_path)
    with pytest.raises(BadInput, match="the pool has 50 accepted rows: 30 are missing") as error:
        subset.run(made)
    assert price in str(error.value)
