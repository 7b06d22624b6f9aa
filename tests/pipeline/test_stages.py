"""Fingerprints: everything that can change a result is in them, nothing else is."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from understudy import config as schema
from understudy.config import Config, GatewayConfig, ServeConfig, WatchConfig, changed
from understudy.config.compose import compose
from understudy.data.subset import block_ends
from understudy.pipeline.flow import Flow, flow_of
from understudy.pipeline.stages import SPECS, Stage, named, science

# Leaf prefix → the stages that read it. Written by hand, not read from the code under test.
READERS = {
    "coverage.kind": {"coverage"},
    "coverage.rows": {"coverage"},
    "coverage.licence": {"coverage"},
    "coverage.seed": {"coverage", "split"},
    "coverage.format": {"coverage"},
    "coverage.columns": {"coverage"},
    "coverage.categories": {"coverage"},
    "coverage.repo": {"coverage"},
    "coverage.revision": {"coverage"},
    "coverage.subset": {"coverage"},
    "coverage.parts": {"coverage"},
    "coverage.split": {"split"},
    "task.name": {"coverage", "synthesis"},
    "task.topic": {"synthesis"},
    "task.execute_code": {"evaluation"},
    "model": {"finetune", "inference"},
    "synthesis": {"synthesis"},
    "loop.subsets": {"subset"},
    "judges": {"evaluation"},
    "baseline": {"baseline"},
    "trainer": {"finetune"},
    "preference": {"preference", "finetune.preferring"},  # which tests/training tells apart
    "inference": {"inference"},
    "inference.k": {"inference", "baseline"},
    **{f"inference.{leaf}": {"finetune", "inference"} for leaf in ("shots", "shot_choice")},
    "evaluation": {"evaluation"},
    "gate.kind": {"gate"},
    "gate.similarity": {"gate"},
    "gate.precision": {"gate"},
    "gate.margin": {"gate"},
    "gate.alpha": {"gate"},
    "gate.max_unscored": {"gate"},
    "gate.tail": {"gate"},
    "seed": {"finetune", "inference"},
}
_NUMBERS = ("cpus", "memory_gb", "hours")  # of an allocation
_ROOMS = ("gpu", "finetune", "inference", "cpu", "api")
MACHINE = {
    *("model.path", "model.chat_template"),  # count by content
    *("coverage.path", "synthesis.path", "inference.path"),  # likewise
    *("coverage.tolerance", "synthesis.tolerance", "inference.tolerance"),
    *("trainer.per_device_batch", "trainer.attention", "trainer.gradient_checkpointing"),
    "trainer.checkpoint_minutes",
    *("inference.python", "inference.system"),  # the latter counts by content
    *("gate.sd", "gate.icc", "gate.p95_s", "gate.refusals", "gate.rent_usd"),  # of plan and decide
    *("gate.floor", "gate.rho"),
    *(
        f"{role}.{leaf}"
        for role in ("synthesis.service", "judges.offline", "baseline.service")
        for leaf in (
            *("concurrency", "requests_per_minute", "tokens_per_minute", "timeout_s", "attempts"),
            *("context", "key_env", "prices", "retired", "mode"),
        )
    ),
    "budget.usd",
    "rehearsal.url",
    *(f"export.{leaf}" for leaf in ("what", "dtype", "llama_cpp", "python")),
    *(f"export.parity.{leaf}" for leaf in ("prompts", "tokens", "server", "server_seconds")),
    *(f"gateway.{item.name}" for item in dataclasses.fields(GatewayConfig)),
    *(f"accelerate.{leaf}" for leaf in ("kind", "processes", "nodes", "port")),
    *(f"serve.{item.name}" for item in dataclasses.fields(ServeConfig)),
    *(f"watch.{item.name}" for item in dataclasses.fields(WatchConfig)),
    *(
        f"cluster.{leaf}"
        for leaf in (
            *("kind", "threads", "processes", "setup", "throttle", "max_array", "lead_seconds"),
            *("requeue", "resubmit", "container", "python", "snapshot", "scratch", "max_jobs"),
            *(f"{room}.sbatch" for room in ("gpu", "cpu", "api")),
            *(
                f"{room}.{leaf}"
                for room in _ROOMS
                for leaf in ("partition", "account", "qos", "constraint", "gpus", "gpu_type")
            ),
            *(f"{room}.{leaf}" for room in _ROOMS for leaf in _NUMBERS),
        )
    ),
    "tracking.kind",
    "tracking.project",
    "tracking.mode",
    "paths.root",
    "run.name",
}
# These decide which stages there are, not what one of them computes.
SHAPE = {"data_size", "loop.sizes", "loop.max_rounds", "gate.judges"}
BY_CONTENT = {"model.chat_template", "inference.system"}  # have a test of their own


def leaf_values(node: Any, name: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        items = node.items()
    elif hasattr(node, "__dataclass_fields__"):
        items = [(key, getattr(node, key)) for key in node.__dataclass_fields__]
    else:
        return {name[1:]: node}
    return {k: v for key, item in items for k, v in leaf_values(item, f"{name}.{key}").items()}


def mutated(config: Config, leaf: str) -> Config:
    config = copy.deepcopy(config)
    *branches, last = leaf.split(".")
    node: Any = config
    for branch in branches:
        node = node[branch] if isinstance(node, dict) else getattr(node, branch)
    old = getattr(node, last)
    if leaf == "trainer.start":
        new: Any = "previous"
    elif leaf in (named := {"trainer.kind": "lora", "evaluation.prompt": "paper"}):
        new = named[leaf]
    elif isinstance(old, bool):
        new = not old
    elif isinstance(old, int | float):
        new = old + 1
    else:
        new = "package:tiny/." if leaf == "model.path" else f"{old}-changed"
    object.__setattr__(node, last, new)  # what no check would let through, too
    return config


def fingerprints(config: Config) -> dict[str, Stage]:
    flow = Flow(config)
    return {"coverage": flow.coverage, "split": flow.split} | flow.baseline | flow.round(1)


def upstream_names(stage: Stage) -> set[str]:
    return {stage.name} | {name for up in stage.inputs.values() for name in upstream_names(up)}


_UNCHANGED: dict[str, dict[str, Stage]] = {}
ALL = sorted(leaf_values(schema.build(compose([], None))))


def test_the_table_speaks_of_every_leaf() -> None:
    for leaf in ALL:
        kinds = [leaf in MACHINE, leaf in SHAPE, bool(readers_of(leaf))]
        assert any(kinds), leaf


def readers_of(leaf: str) -> set[str]:
    matching = [p for p in READERS if leaf == p or leaf.startswith(f"{p}.")]
    return READERS[max(matching, key=len)] if matching else set()


@pytest.mark.parametrize("seeds", ["uniform", "weak"])  # weak adds folds of every stage
@pytest.mark.parametrize("leaf", [leaf for leaf in ALL if leaf not in SHAPE | BY_CONTENT])
def test_a_leaf_changes_the_stages_that_read_it_and_all_downstream_and_nothing_else(
    leaf: str, seeds: str, composed: Callable[..., Config]
) -> None:
    config = composed(f"synthesis.seeds={seeds}")
    if seeds not in _UNCHANGED:  # by nothing but its root, which no fingerprint holds
        _UNCHANGED[seeds] = fingerprints(config)
    before, after = _UNCHANGED[seeds], fingerprints(mutated(config, leaf))
    readers = set() if leaf in MACHINE else readers_of(leaf)
    for role, stage in before.items():
        expected = bool(readers & upstream_names(stage))
        changed = stage.fingerprint != after[role].fingerprint
        assert changed == expected, f"{leaf} on {role}"


@pytest.mark.parametrize("leaf", sorted(BY_CONTENT))
def test_a_chat_template_and_a_system_prompt_count_by_their_contents(
    leaf: str, composed: Callable[..., Config], tmp_path: Path
) -> None:
    found = []
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / f"{name}.jinja").write_text(text)
        template = str(tmp_path / f"{name}.jinja")
        config = changed(composed("data_size=0"), {leaf: template})
        flow = Flow(config).round(0)
        found.append([flow["finetune"].fingerprint, flow["inference"].fingerprint])
    assert found[0] == found[1]
    assert not set(found[0]) & set(found[2])


# finetune and inference, taken before recipes had leaves of their own: finished stages stay valid.
OLD = {
    ("data_size=0",): ("9db186c6d77f844f", "b8a34403a4104088"),
    ("data_size=0", "trainer=lora"): ("92dda6241514ed2e", "b41dce86f1a2de60"),
    ("data_size=0", "trainer=full"): ("6d609658ffc5184a", "059e52dc21683b7c"),
}


@pytest.mark.parametrize("overrides", OLD, ids=" ".join)
def test_later_leaves_have_left_the_fingerprints_of_earlier_configs_alone(
    overrides: tuple[str, ...], composed: Callable[..., Config]
) -> None:
    stages = Flow(composed(*overrides)).round(0)
    assert (stages["finetune"].fingerprint, stages["inference"].fingerprint) == OLD[overrides]


VARIANTS = {
    "file": ["coverage=file", "coverage.path={}", "synthesis=file", "synthesis.path={}"],
    "ready": ["inference=file", "inference.path={}"],
}
# Of the stages that read somebody's file, again by hand; `rows` is the file itself.
FILE_READERS = {
    "file": {
        **{"rows": {"coverage", "cleaning"}, "coverage.columns.id": {"coverage"}},
        **{"coverage.format": {"coverage"}, "synthesis.format": {"cleaning"}},
        **{"coverage.licence": {"coverage"}, "task.name": {"coverage", "cleaning"}},
        **{"synthesis.pairs_per_call": set(), "coverage.tolerance": set()},
        **{"synthesis.dedup.kind": {"cleaning"}, "synthesis.dedup.words": {"cleaning"}},
        **{"synthesis.tolerance": set(), "seed": {"finetune", "inference"}},
    },
    "ready": {
        **{"rows": {"split.imported", "inference.imported", "evaluation.imported"}},
        **{"inference.repeats": {"evaluation.imported"}, "inference.k": set()},
        **{"inference.tolerance": set(), "coverage.seed": set(), "seed": set()},
        **{"task.name": {"split.imported"}, "evaluation.m": {"evaluation"}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "leaf"), [(v, leaf) for v, table in FILE_READERS.items() for leaf in table]
)
def test_a_file_counts_by_its_contents_and_a_leaf_only_where_it_is_read(
    variant: str, leaf: str, composed: Callable[..., Config], tmp_path: Path
) -> None:
    row = '{"prompt":"a","reference":"b","candidate":"c","generator":"g","response":"b",'
    row += '"evaluator":"e","similarity":50,"precision":50}\n'
    (tmp_path / "a.jsonl").write_text(row)
    (tmp_path / "elsewhere.jsonl").write_text(row)
    (tmp_path / "more.jsonl").write_text(row + row)

    def stages_of(name: str, change: str = "") -> dict[str, Stage]:
        path = tmp_path / name
        config = composed(*(override.format(path) for override in VARIANTS[variant]))
        flow = flow_of(mutated(config, change) if change else config)
        return flow.shared | flow.round(len(flow.sizes) - 1)

    before, moved = stages_of("a.jsonl"), stages_of("elsewhere.jsonl")
    assert [s.path for s in before.values()] == [s.path for s in moved.values()]
    after = stages_of("more.jsonl") if leaf == "rows" else stages_of("a.jsonl", leaf)
    for role, stage in before.items():
        expected = bool(FILE_READERS[variant][leaf] & upstream_names(stage))
        assert (stage.fingerprint != after[role].fingerprint) == expected, f"{leaf} on {role}"


def test_a_leaf_of_later_work_is_not_hashed_while_it_has_its_default(
    composed: Callable[..., Config],
) -> None:
    hashed = Flow(composed()).coverage.document["config"]
    old = ("coverage.kind", "coverage.licence", "coverage.rows", "coverage.seed", "task.name")
    assert sorted(hashed) == list(old)


def test_ready_made_stages_stand_in_the_directories_of_their_kind(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt":"a","reference":"b","candidate":"c","generator":"g"}\n')
    flow = flow_of(composed("inference=file", f"inference.path={path}"))
    kinds = [stage.path.partition("/")[0] for stage in (flow.shared | flow.round(0)).values()]
    assert kinds == ["split", "inference", "evaluation", "gate"]


def test_equal_numbers_written_differently_are_equal(composed: Callable[..., Config]) -> None:
    a = Flow(composed("trainer.lr=1e-4")).round(0)["finetune"]
    b = Flow(composed("trainer.lr=0.0001")).round(0)["finetune"]
    assert a.fingerprint == b.fingerprint


def test_a_ladder_step_is_the_stage_that_its_size_alone_trains(
    composed: Callable[..., Config],
) -> None:
    ladder = Flow(composed()).round(2)
    alone = Flow(composed("data_size=1k")).round(0)
    assert ladder["finetune"].fingerprint == alone["finetune"].fingerprint


def test_another_ladder_keeps_the_blocks(composed: Callable[..., Config]) -> None:
    a = Flow(composed()).blocks(1000)
    b = Flow(composed("loop.sizes=[0,300,700]")).blocks(700)
    assert [s.fingerprint for s in a] == [s.fingerprint for s in b]


def test_judges_share_the_model_and_the_answers(composed: Callable[..., Config]) -> None:
    one, other = (Flow(composed(f"judge={j}")).round(1) for j in ("offline", "offline_strict"))
    assert one["inference"].fingerprint == other["inference"].fingerprint
    assert one["evaluation.offline"].fingerprint != other["evaluation.offline_strict"].fingerprint


def test_adding_a_judge_rejudges_nothing(composed: Callable[..., Config]) -> None:
    one = Flow(composed()).round(0)["evaluation.offline"]
    panel = Flow(composed("judge=offline_panel")).round(0)["evaluation.offline"]
    assert one.fingerprint == panel.fingerprint


def test_starting_from_the_previous_round_makes_it_an_upstream(
    composed: Callable[..., Config],
) -> None:
    flow = Flow(composed("trainer.start=previous"))
    assert "previous" not in flow.round(0)["finetune"].inputs
    previous = flow.round(1)["finetune"].inputs["previous"]
    assert previous.fingerprint == flow.round(0)["finetune"].fingerprint


def test_no_machine_leaf_is_science(composed: Callable[..., Config]) -> None:
    assert not MACHINE & set(science(composed()))


@pytest.mark.parametrize(
    ("rows", "ends"),
    [(0, []), (1, [125]), (125, [125]), (126, [125, 250]), (1000, [125, 250, 500, 1000])],
)
def test_blocks_end_at_125_times_powers_of_two(rows: int, ends: list[int]) -> None:
    assert block_ends(rows) == ends


def test_the_holdout_is_judged_with_the_stages_of_a_round_on_another_split(
    composed: Callable[..., Config],
) -> None:
    flow = Flow(composed("judge=offline_panel"))
    tested, held = flow.round(1) | flow.baseline, flow.holdout(1)
    assert held.keys() == {role for role in tested if role in held}
    for role, stage in held.items():
        assert stage.params == tested[role].params | {"split": "holdout"}
        assert stage.fingerprint != tested[role].fingerprint
    assert held["inference"].inputs == tested["inference"].inputs
    assert Flow(composed("baseline=none")).holdout(1) == {}


def test_what_a_spec_names_exists() -> None:
    for name, spec in SPECS.items():
        assert callable(named(spec.run)), name
        assert spec.estimate is None or named(spec.estimate), name
        assert spec.service is None or spec.gpus == "none", name  # each has one room
