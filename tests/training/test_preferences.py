"""DPO and KTO after SFT: what is learned from, as TRL does it, whatever kills it on the way."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import launched, tiny_model
from support.training_curves import assert_equal_within_tolerance
from understudy.config import Config, changed, views
from understudy.config.agreement import check
from understudy.errors import BadInput
from understudy.models import load
from understudy.pipeline import stages
from understudy.pipeline.flow import Flow
from understudy.pipeline.stages import Stage
from understudy.records import Answer, Preference, Verdict
from understudy.store.artifacts import Job, StageDir
from understudy.training import contrast, finetune
from understudy.training.preference import labelled

# --- which answers are labelled, and which are dropped -----------------------------------------


def answer(prompt: str, k: int, text: str, finish: str = "stop") -> Answer:
    return Answer(prompt, prompt, k, text, 1, finish, "local", "understudy")


def verdict(prompt: str, k: int, score: float | None) -> Verdict:
    status = "unparsed" if score is None else "scored"
    scores = score, score, None, None
    return Verdict(prompt, "local", k, "j", "rule", "default", "order", 0, "0-100", *scores, status)


PROMPTS = {row.id: row for row in tiny_model.rows(3)}  # wanted: "0 red", "1 red", "2 red"
ANSWERS = [
    *(answer("train0", 0, "blue"), answer("train0", 1, "0 red"), answer("train0", 2, " blue ")),
    *(answer("train1", 0, "one red"), answer("train1", 1, "green"), answer("train1", 2, "1 re")),
    *(answer("train2", 0, "two red"), answer("train2", 1, "a", "length")),
]
SCORES = [verdict("train0", 0, 10), verdict("train0", 2, 10), verdict("train1", 0, 90)]
SCORES += [verdict("train1", 1, 20), verdict("train1", 2, None), verdict("train2", 0, 70)]


def test_an_answer_is_rejected_unless_it_is_as_good_and_what_is_dropped_is_counted() -> None:
    dropped = Counter[str]()
    found = list(labelled(PROMPTS, ANSWERS, SCORES, 70, dropped))
    assert [(row.prompt_id, row.k, row.is_good, row.score) for row in found] == [
        *(("train0", -1, True, None), ("train0", 0, False, 10)),
        *(("train1", -1, True, None), ("train1", 0, True, 90), ("train1", 1, False, 20)),
        ("train2", 0, True, 70),  # nothing worse, so its wanted answer is no contrast
    ]
    assert dropped == {"equal": 1, "repeated": 1, "unscored": 1, "cut_off": 1}
    assert found[1].messages == [*PROMPTS["train0"].messages[:-1], turn("blue")]
    assert found[0].messages == PROMPTS["train0"].messages


def test_without_a_judge_every_other_answer_is_worse() -> None:
    dropped = Counter[str]()
    found = list(labelled(PROMPTS, ANSWERS, None, 70, dropped))
    assert not [row for row in found if row.k >= 0 and row.is_good]
    assert Counter(row.prompt_id for row in found) == {"train0": 2, "train1": 4, "train2": 2}
    assert dropped == {"equal": 1, "repeated": 1, "cut_off": 1}


def turn(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def preferences(count: int, split: Any = "train") -> list[Preference]:
    """A wanted answer, a worse one and, of every third prompt, one that is as good."""
    made = []
    for row in tiny_model.rows(count, split):
        number = row.id.removeprefix(split)
        said = [(-1, f"{number} red", True), (0, "blue " * (1 + int(number) % 3), False)]
        said += [(1, "red", True)] if int(number) % 3 == 0 else []
        for k, text, is_good in said:
            messages = [*row.messages[:-1], turn(text.strip())]
            made.append(Preference(row.id, row.id, split, k, messages, is_good, None))
    return made


def encoded(kind: Any, base: Path, longest: int = 96) -> contrast.Contrasts:
    model = tiny_model.build(base).model
    tokenizer = load.tokenizer(model)
    stop = load.stop_id(tokenizer, model)
    return contrast.encode_answers(kind, preferences(4), lambda row: row, tokenizer, stop, longest)


def test_pairs_are_wanted_before_worse_and_single_answers_have_their_label(base: Path) -> None:
    tokenizer = load.tokenizer(tiny_model.build(base).model)
    pairs, singles = (encoded(kind, base).examples for kind in ("dpo", "kto"))
    texts = [
        [tokenizer.decode(one[name]) for name in ("chosen_ids", "rejected_ids")] for one in pairs
    ]
    stop = tiny_model.STOP
    assert texts[:2] == [[f"0 red{stop}", f"blue{stop}"], [f"1 red{stop}", f"blue blue{stop}"]]
    three, two = [True, False, True], [True, False]
    assert [one["label"] for one in singles] == [*three, *two, *two, *three]
    assert tokenizer.decode(singles[2]["completion_ids"]) == f"red{stop}"
    assert pairs[0]["prompt_ids"] == singles[0]["prompt_ids"] == singles[1]["prompt_ids"]


def test_what_is_too_long_and_what_fills_no_batch_is_left_out_and_counted(base: Path) -> None:
    whole = encoded("kto", base)
    sizes = [len(one["prompt_ids"]) + len(one["completion_ids"]) for one in whole.examples]
    some = encoded("kto", base, max(sizes) - 1)
    assert some.over_length == sum(size == max(sizes) for size in sizes) > 0
    assert len(some.examples) == len(sizes) - some.over_length
    cut = contrast.in_whole_batches(whole, 4)
    assert (len(cut.examples), cut.remainder) == (8, 2)
    with pytest.raises(BadInput, match=r"10 examples to learn from, fewer than preference.batch"):
        contrast.in_whole_batches(whole, 16)


# --- which stages there are ----------------------------------------------------------------------


DPO = {"trainer.kind": "dpo", "trainer.weights": "full"}


def test_a_preference_goes_on_from_the_very_sft_stage_of_a_run_without_one(
    composed: Callable[..., Config],
) -> None:
    plain = composed("data_size=0")
    sft = Flow(plain).round(0)
    dpo = Flow(changed(plain, DPO)).round(0)
    kto = Flow(changed(plain, DPO | {"trainer.kind": "kto"})).round(0)
    assert dpo["training.sft"] == sft["finetune"]
    assert dpo["preference"].fingerprint == kto["preference"].fingerprint
    assert len({one["finetune"].fingerprint for one in (sft, dpo, kto)}) == 3
    assert dpo["inference"].inputs["finetune"] == dpo["finetune"]
    assert list(dpo)[-5:] == ["preference", "finetune", "inference", "evaluation.offline", "gate"]
    assert dpo["finetune"].path.startswith("finetune/")


def test_a_leaf_of_preferences_changes_only_what_reads_it(composed: Callable[..., Config]) -> None:
    panel = composed("data_size=0", "judge=offline_panel", "gate.judges=[offline_strict]")
    before = changed(panel, DPO | {"preference.judge": "offline"})
    check(before)
    readers = {
        "preference.beta": {"finetune"},
        "preference.lr_share": {"finetune"},
        "preference.good": {"preference"},
        "preference.m": {"training.verdicts.train"},
        "preference.samples": {"training.answers.train"},
        "inference.k": {"inference"},
        "evaluation.m": {"evaluation.offline"},
        "trainer.lr": {"training.sft"},
    }
    order = ["training.sft", "training.answers.train", "training.verdicts.train", "preference"]
    order += ["finetune", "inference", "evaluation.offline"]
    old = Flow(before).round(0)
    for leaf, (first,) in readers.items():
        value = {"preference.good": 60.0}.get(leaf, 7)
        new = Flow(changed(before, {leaf: value})).round(0)
        differs = [role for role in order if old[role].fingerprint != new[role].fingerprint]
        assert differs == order[order.index(first) :], leaf


def test_who_labels_training_pairs_never_gates(composed: Callable[..., Config]) -> None:
    panel = changed(composed("judge=today_panel"), DPO)
    one, *others = sorted(panel.judges)
    with pytest.raises(BadInput, match="is not among the judges"):
        check(changed(panel, {"preference.judge": "nobody"}))
    with pytest.raises(BadInput, match=rf"preference.judge={one} .* must not gate .* train;"):
        check(changed(panel, {"preference.judge": one}))
    apart = changed(panel, {"preference.judge": one, "gate.judges": others})
    check(apart)
    with pytest.raises(BadInput, match=rf"\({others[0]} is the same model\)"):
        check(changed(apart, {f"judges.{others[0]}": panel.judges[one]}))


def test_what_both_trainings_change_is_said_once(composed: Callable[..., Config]) -> None:
    plain = composed()
    with pytest.raises(BadInput, match=r"give trainer.weights=full or trainer.weights=lora"):
        check(changed(plain, {"trainer.kind": "dpo"}))
    with pytest.raises(BadInput, match=r"trainer.weights=lora is for trainer.kind=dpo or kto"):
        check(changed(plain, {"trainer.weights": "lora"}))


# --- training ------------------------------------------------------------------------------------


SHORT = {
    **{"trainer__weights": "full", "preference__batch_size": 4, "preference__epochs": 2},
    **{"preference__max_steps": 5, "trainer__lr": 2e-2, "trainer__lora_dropout": 0.0},
}


def config_of(base: Path, kind: str, **changes: Any) -> Config:
    return tiny_model.build(base, **(SHORT | {"trainer__kind": kind} | changes))


@pytest.fixture(scope="module")
def upstream(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A function: which weights are trained → what such a training reads, after a step of SFT."""
    root = tmp_path_factory.mktemp("upstream")
    rows, held = tiny_model.rows(12), tiny_model.rows(4, "validation")
    inputs = {
        "subset": tiny_model.upstream(root / "subset", rows),
        "split": tiny_model.upstream(root / "split", rows + held),
    }
    labels: list[Any] = preferences(12) + preferences(4, "validation")
    labels = tiny_model.upstream(root / "preference", labels)  # type: ignore[assignment]

    def made(weights: str) -> dict[str, Any]:
        before = root / weights
        if not before.exists():
            config = config_of(base, "dpo", trainer__weights=weights, trainer__max_steps=1)
            finetune.run(tiny_model.job(before, views.sft(config), **inputs))
        return inputs | {"preference": labels, "previous": before / "out"}

    return made


def trained(root: Path, config: Config, inputs: dict[str, Path]) -> Job:
    job = tiny_model.job(root, views.preferring(config), **inputs)
    finetune.run_preferring(job)
    return job


def shipped(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), [("dpo", "full"), ("kto", "lora")])
def test_losses_are_those_of_trls_own_trainer(
    upstream: Callable[..., dict[str, Any]], base: Path, tmp_path: Path, kind: Any, weights: str
) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    wanted = config_of(base, kind, trainer__weights=weights)
    job = trained(tmp_path / "ours", wanted, upstream(weights))
    curve = tiny_model.read(job.out / "curve.jsonl")

    config, recipe = job.config, job.config.trainer
    tokenizer = load.tokenizer(config.model)
    rows = contrast.encoded(job, tokenizer).train.examples
    # As text, so that TRL renders and tokenizes by itself.
    names = {"prompt_ids": "prompt", "chosen_ids": "chosen", "rejected_ids": "rejected"}
    names |= {"completion_ids": "completion", "label": "label"}
    texts = [
        {names[n]: v if n == "label" else tokenizer.decode(v) for n, v in row.items()}
        for row in rows
    ]
    own = {"loss_type": "apo_zero_unpaired", "train_sampling_strategy": "random"}
    args = (DPOConfig if kind == "dpo" else KTOConfig)(
        output_dir=str(tmp_path / "trl"),
        max_steps=5,
        per_device_train_batch_size=4,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=round(recipe.warmup * 5),
        seed=config.seed,
        beta=config.preference.beta,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=None,
        activation_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **(own if kind == "kto" else {}),
    )
    model, _ = finetune.start(job, tokenizer, 12)
    full = load.finetuned(config.model, job.inputs["previous"] / "model", load.full_precision())
    theirs = (DPOTrainer if kind == "dpo" else KTOTrainer)(
        model=model,
        ref_model=full if weights == "full" else None,
        args=args,
        train_dataset=Dataset.from_list(texts),
        processing_class=tokenizer,
    )
    theirs.train()
    losses = [entry["loss"] for entry in theirs.state.log_history if "loss" in entry]
    assert [line["train_loss"] for line in curve] == pytest.approx(losses, abs=1e-5)
    assert len(losses) == 5
    assert losses[-1] < losses[0] - 1e-3  # it learns


KILLED = """
import os, signal, sys
from understudy.pipeline.worker import main
from understudy.training import objectives

steps = 0
def step(self, *args, **kwargs):
    global steps
    steps += 1
    if steps == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return super(type(self), self).training_step(*args, **kwargs)

objectives.PairTrainer.training_step = objectives.AnswerTrainer.training_step = step
main([sys.argv[1]])
"""


def prepared(root: Path, config: Config, inputs: dict[str, Path]) -> StageDir:
    """The stage directory of the same training, for processes of their own."""
    for role, path in inputs.items():
        shutil.copytree(path, root / role / "s" / "out")
        (root / role / "s" / "DONE").touch()
    made = StageDir(root / "finetune" / "0123456789abcdef")
    frozen = stages.frozen(Stage("finetune.preferring", {}, {}, {}, {}), config)
    roles = {role: f"{role}/s" for role in inputs}
    made.prepare(frozen, {"command": "test", "inputs": roles, "purse": "run/test"})
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), [("dpo", "lora"), ("kto", "full")])
def test_a_training_that_is_killed_in_a_step_goes_on_to_the_same_bytes(
    upstream: Callable[..., dict[str, Any]], base: Path, tmp_path: Path, kind: str, weights: str
) -> None:
    config = config_of(base, kind, trainer__weights=weights, trainer__evaluations=5)
    whole = trained(tmp_path / "whole", config, upstream(weights))
    stage = prepared(tmp_path / "runs", config, upstream(weights))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(stage.path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not stage.is_done
    kept = stage.path.glob("attempts/*/scratch/checkpoints/*/COMPLETE")
    assert "checkpoint-3" in {path.parent.name for path in kept}
    code, _, err = launched.run(stage)
    assert code == 0, err
    assert shipped(stage.out) == shipped(whole.out)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), [("dpo", "full"), ("kto", "lora")])
def test_two_processes_learn_as_one(
    upstream: Callable[..., dict[str, Any]], base: Path, tmp_path: Path, kind: str, weights: str
) -> None:
    changes = {"trainer__weights": weights, "trainer__evaluations": 2}
    alone = trained(tmp_path / "alone", config_of(base, kind, **changes), upstream(weights))
    both = config_of(base, kind, accelerate__kind="ddp", **changes)
    stage = prepared(tmp_path / "runs", both, upstream(weights))
    code, _, err = launched.run(stage)
    assert code == 0, err
    assert_equal_within_tolerance(stage.out, alone.out)
