"""The schema: typed, complete, and wrong input answered in one sentence."""

import copy
from pathlib import Path
from typing import Any

import pytest

from understudy import config, locations
from understudy.config.compose import compose, origins
from understudy.errors import BadInput


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    return compose([], None)


def changed(values: dict[str, Any], leaf: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    *branches, name = leaf.split(".")
    node = values
    for branch in branches:
        node = node[branch]
    node[name] = value
    return values


@pytest.mark.parametrize(
    ("leaf", "value", "words"),
    [
        ("trainer.lr", "abc", ["trainer.lr=abc", "number"]),
        ("trainer.lr", -1, ["trainer.lr=-1", "greater than 0"]),
        ("trainer.kind", "lorra", ["trainer.kind=lorra", "'full', 'lora', 'none', 'dpo' or 'kto'"]),
        ("trainer.lrr", 1, ["trainer.lrr", "did you mean trainer.lr?"]),
        ("loop.sizes", ["x"], ["loop.sizes", "x"]),
        ("loop.sizes", [1000, 250], ["loop.sizes=[1000, 250]", "rise"]),
        ("gate.judges", ["nobody"], ["nobody", "offline"]),
        ("gate.judges", [], ["gate.judges=[]"]),
        ("trainer.max_length", 10_000, ["10000", "context", "tiny"]),
        ("trainer.per_device_batch", 5, ["per_device_batch=5", "choose one of 1, 2"]),
        ("baseline.service", None, ["baseline.service"]),
        ("synthesis.kind", "none", ["synthesis=none", "data_size=0"]),
        ("coverage.kind", "file", ["coverage=file", "needs coverage.path"]),
        ("coverage.kind", "hub", ["coverage=hub", "needs coverage.repo"]),
        ("coverage.path", "x.jsonl", ["coverage.path=x.jsonl", "choose coverage=file"]),
        ("coverage.rows", None, ["coverage=playground", "coverage.rows"]),
        ("coverage.revision", "main", ["coverage.revision=main"]),
        ("synthesis.kind", "file", ["synthesis=file", "needs synthesis.path"]),
        ("inference.kind", "file", ["inference=file", "needs inference.path"]),
        ("judges", {}, ["judge=none", "inference=file"]),
    ],
)
def test_a_wrong_value_is_answered_by_one_sentence_that_names_it(
    defaults: dict[str, Any], leaf: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(BadInput) as error:
        config.build(changed(defaults, leaf, value))
    sentence = str(error.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in words), sentence


def test_previous_start_needs_the_ladder(defaults: dict[str, Any]) -> None:
    values = changed(changed(defaults, "trainer.start", "previous"), "data_size", 250)
    with pytest.raises(BadInput, match="needs the ladder"):
        config.build(values)


@pytest.mark.parametrize(("given", "rows"), [("1k", 1000), (250, 250), ("256k", 256_000)])
def test_sizes_may_be_written_with_a_k(
    defaults: dict[str, Any], given: str | int, rows: int
) -> None:
    assert config.build(changed(defaults, "data_size", given)).sizes == [rows]


def test_the_ladder_is_cut_at_max_rounds(defaults: dict[str, Any]) -> None:
    assert config.build(defaults).sizes == [0, 250, 1000, 4000]
    assert config.build(changed(defaults, "loop.max_rounds", 2)).sizes == [0, 250]


def test_every_composed_leaf_is_in_the_schema_and_has_an_origin() -> None:
    values, told = compose(["judge=offline_panel"], None), origins(["judge=offline_panel"], None)

    def leaves(node: Any, name: str) -> list[str]:
        if isinstance(node, dict):
            return [leaf for key, item in node.items() for leaf in leaves(item, f"{name}.{key}")]
        return [name[1:]]

    known = set(config.LEAVES)
    for leaf in leaves(values, ""):
        parts = leaf.split(".")
        schema = ".".join(["judges", "*", *parts[2:]]) if parts[0] == "judges" else leaf
        assert schema in known or any(k.startswith(f"{schema}.") for k in known), leaf
        assert leaf in told, leaf


def options() -> list[str]:
    conf = locations.shared("conf")
    return [f"{path.parent.name}={path.stem}" for path in sorted(conf.glob("*/*.yaml"))]


ONE_METRIC = ("code", "contains", "exact", "json", "label", "number", "regex", "tool_calls")


@pytest.mark.slow
@pytest.mark.parametrize("option", [o for o in options() if not o.startswith("service=")])
def test_every_committed_option_composes(option: str) -> None:
    group, _, kind = option.partition("=")
    extra = {
        "synthesis=none": ["data_size=0"],
        "judge=none": ["inference=file", "inference.path=answers.jsonl"],
        "inference=vllm": ["inference.python=python3"],
        "judge=python": ["graders.python.function=grade.py:grade", "gate.similarity=0"],
        "judge=sql": ["graders.sql.database=geography.sqlite", "gate.similarity=0"],
    }.get(option, [])
    if kind in ("file", "hub"):  # they say what, the user says which
        extra = [f"{group}.path=a.jsonl" if kind == "file" else f"{group}.repo=a/b"]
    if group == "trainer" and kind.startswith("paper"):
        extra = ["model=gemma_7b"]
    if group == "judge" and kind in ONE_METRIC:
        extra = ["gate.similarity=0"]
    if group in ("judge", "synthesis", "baseline"):  # some are withdrawn, or somewhere else
        extra = [*extra, "rehearsal.url=http://127.0.0.1:9"]
    config.build(compose([option, *extra], None))


def test_every_option_says_what_it_is() -> None:
    for path in locations.shared("conf").glob("*/*.yaml"):
        comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
        assert [c for c in comments if not c.startswith("# @package")], path


def test_a_config_dir_of_ones_own_adds_options(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "mine.yaml").write_text(
        "# Mine\ndefaults:\n  - tiny\n  - _self_\nlr: 0.5\n"
    )
    given = (["trainer=mine"], str(tmp_path))
    assert compose(*given)["trainer"]["lr"] == 0.5
    assert origins(*given)["trainer.lr"].endswith("trainer/mine.yaml")
