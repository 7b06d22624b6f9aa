"""How long local models will take: learnt from finished stages, probed, or guessed, and said so."""

import json
from typing import Any

import pytest

from support.plans import Make, items, planned, work_off
from understudy import plan
from understudy.config import Config
from understudy.models import hardware
from understudy.pipeline import flow, run
from understudy.pipeline.stages import frozen
from understudy.plan.ranges import exactly
from understudy.plan.speed import Key, Measured, Speeds
from understudy.store.artifacts import StageDir


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))


KEY = Key("finetune", "full none", "llama")
HERE = "a processor"


def measured(second: float, **changed: Any) -> Measured:
    return Measured(KEY, 1e6, HERE, 5.0, exactly(second))._replace(**changed)


def test_the_same_model_on_the_same_hardware_is_known_best_and_others_by_their_size() -> None:
    probed, elsewhere = measured(2.0, is_probe=True), measured(8.0, hardware="another")
    other = measured(3.0, key=KEY._replace(shape="gpt2"), parameters=1e5)
    found = []
    known = [measured(1.0), probed, elsewhere, other]
    while known:
        speed = Speeds(known).of(KEY, 1e6, HERE)
        assert speed is not None
        found.append((speed.basis, speed.unit_s.expected, speed.within))
        known.pop(0)
    assert found == [
        ("finished stages", 1.0, 2.0),
        ("probe", 2.0, 2.0),
        ("finished stages elsewhere", 8.0, 4.0),
        ("finished stages of other models", pytest.approx(30.0), 4.0),
    ]
    assert Speeds([]).of(KEY, 1e6, HERE) is None
    assert Speeds([other]).of(KEY._replace(way="lora none"), 1e6, HERE) is None


def test_of_nodes_elsewhere_all_stages_of_the_root_tell_and_a_probe_here_less() -> None:
    done, probed = measured(1.0, hardware="a node's"), measured(2.0, is_probe=True)
    of_nodes = Speeds([done, probed]).of(KEY, 1e6, None)
    assert of_nodes is not None
    assert (of_nodes.basis, of_nodes.within) == ("finished stages", 2.0)
    of_probe = Speeds([probed]).of(KEY, 1e6, None)
    assert of_probe is not None
    assert (of_probe.basis, of_probe.within) == ("probe", 4.0)


def test_stages_that_differ_widen_the_interval_until_it_holds_all_of_them() -> None:
    speed = Speeds([measured(second) for second in (1.0, 2.0, 10.0)]).of(KEY, 1e6, HERE)
    assert speed is not None
    assert speed.unit_s.expected / speed.within <= 1.0
    assert speed.unit_s.expected * speed.within >= 10.0


def trained(config: Config, seconds: float, steps: int, **meta: Any) -> None:
    """The finished fine-tuning of the first round, on a split of work_off."""
    stage = flow.flow_of(config).round(0)["finetune"]
    directory = StageDir(run.run_root(config) / stage.path)
    inputs = {role: upstream.path for role, upstream in stage.inputs.items()}
    directory.prepare(frozen(stage, config), {"command": "", "inputs": inputs, "purse": ""})
    attempt = directory.open_attempt()
    summary = {"steps": steps, "tokens": 100, "rows": 10, "epochs": 4.0}
    (attempt / "out" / "summary.json").write_text(json.dumps(summary))
    directory.publish(attempt, {"seconds": seconds, **meta})


SMALL = (
    *("coverage.rows=40", "coverage.split.test=4", "coverage.split.validation=4", "data_size=0"),
    *("trainer.patience=null", "inference.k=1", "inference.max_new_tokens=16"),
)


@pytest.mark.slow
def test_a_finished_training_tells_start_and_pace_apart(composed: Make) -> None:
    config = composed(*SMALL, "trainer.max_steps=10")
    work_off(config, "coverage", "split")
    here = {"hardware": hardware.name(False), "processes": 1}
    trained(config, 30.0, 10, tokens_per_second=20.0, **here)  # 20 of 30 s; 10 s of loading
    longer = composed(*SMALL, "trainer.max_steps=40")
    (item,) = items(planned(longer), "finetune")
    assert item.seconds.expected == pytest.approx(10 + 4 * 20)
    assert item.basis == "finished stages"
    assert item.seconds.high == pytest.approx(2 * item.seconds.expected)


@pytest.mark.slow
def test_training_may_stop_early_so_the_least_is_less(composed: Make) -> None:
    patient, hasty = (
        items(
            planned(composed(*SMALL, "trainer.max_steps=40", f"trainer.patience={n}")), "finetune"
        )
        for n in ("null", "1")
    )
    assert patient[0].seconds.high == hasty[0].seconds.high
    assert hasty[0].seconds.low < patient[0].seconds.low


def test_where_others_use_the_cores_the_interval_is_wider_and_says_so(
    composed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = items(planned(composed(*SMALL)), "finetune")[0].seconds
    monkeypatch.setattr("os.getloadavg", lambda: (8.0, 8.0, 8.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    made = planned(composed(*SMALL))
    shared = items(made, "finetune")[0].seconds
    assert shared.expected == alone.expected
    assert shared.high == pytest.approx(4 * alone.high)
    assert shared.low == pytest.approx(alone.low / 4)
    assert made.notices == [
        "4.0 processes share a core here now: intervals are so much wider, each way"
    ]


def test_a_plan_says_where_its_times_come_from(composed: Make) -> None:
    made = planned(composed(*SMALL))
    assert {item.basis for item in items(made, "finetune") + items(made, "inference")} == {"table"}
    assert made.notices == []


@pytest.mark.slow
def test_a_probe_names_itself_and_counts_what_comes_before_the_answers(composed: Make) -> None:
    config = composed(*SMALL, "baseline=none", "trainer.max_steps=10")
    work_off(config, "coverage", "split")
    trained(config, 30.0, 10)  # so that answers alone are probed
    made = plan.make([config], "run/x", is_probed=True)
    (item,) = items(made, "inference")
    assert not [notice for notice in made.notices if "probe" in notice]
    assert item.basis == "probe"
    # Importing alone takes longer than answers to four rows of 16 tokens by this model.
    assert 0.5 < item.seconds.low < item.seconds.expected < item.seconds.high
