"""Stage finetune: what is learned from, which model is shipped, and what a crash costs."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from support import tiny_model
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import stage
from understudy.models import load
from understudy.store.artifacts import Job
from understudy.training import finetune
from understudy.training.data import encode


@pytest.fixture
def prepare(tmp_path: Path, base: Path) -> Callable[..., Job]:
    """Make a job that trains on ten rows and validates on four, unless told otherwise."""

    def make(name: str = "job", rows: Any = None, held: Any = None, **changes: Any) -> Job:
        root = tmp_path / name
        inputs = {
            "subset": tiny_model.upstream(
                root / "subset", tiny_model.rows(10) if rows is None else rows
            ),
            "split": tiny_model.upstream(
                root / "split", tiny_model.rows(4, "validation") if held is None else held
            ),
        }
        if "previous" in changes:
            inputs["previous"] = changes.pop("previous")
        return tiny_model.job(root, tiny_model.build(base, **changes), **inputs)

    return make


def shipped(job: Job) -> dict[str, bytes]:
    """Every published file."""
    files = [path for path in job.out.rglob("*") if path.is_file()]
    return {path.relative_to(job.out).as_posix(): path.read_bytes() for path in files}


def validation_loss(job: Job) -> float:
    """The validation loss of the shipped model, computed without the trainer."""
    import torch

    config = job.config
    tokenizer = load.tokenizer(config.model, job.out / "model")
    model = load.finetuned(config.model, job.out / "model", torch.float32)
    stop = load.stop_id(tokenizer, config.model)
    total, tokens = 0.0, 0
    for row in tiny_model.rows(4, "validation", answer="blue blue"):
        one = encode(row, tokenizer, stop)
        assert one is not None
        count = len(one.ids) - one.prompt_tokens
        with torch.no_grad():
            output = model(input_ids=torch.tensor([one.ids]), labels=torch.tensor([one.labels]))
        total, tokens = total + float(output.loss) * count, tokens + count
    return total / tokens


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_fine_tuned_model_answers_as_taught_and_stops(
    prepare: Callable[..., Job], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tiny_model.rows(8, answer="blue")
    changes = {"trainer__kind": kind, "trainer__lr": 1e-2, "trainer__min_steps": 40}
    changes |= {"trainer__lora_rank": 16, "trainer__lora_dropout": 0.0, "trainer__batch_size": 8}
    job = prepare(rows=rows, held=tiny_model.rows(2, "validation", "blue"), **changes)
    finetune.run(job)
    asked = tiny_model.upstream(tmp_path / "asked", tiny_model.rows(3, "test"))
    config = tiny_model.build(job.config.model.path, inference__temperature=0.0)
    answering = tiny_model.job(tmp_path / "answers", config, split=asked, finetune=job.out)
    stage.run(answering)
    answers = tiny_model.read(answering.out / "rows.jsonl")
    assert {(a["text"], a["finish"]) for a in answers} == {("blue", "stop")}
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_lora_ships_an_adapter_that_names_no_place_on_this_machine(
    prepare: Callable[..., Job], tmp_path: Path
) -> None:
    job = prepare(trainer__kind="lora", trainer__max_steps=1)
    finetune.run(job)
    names = {path.name for path in (job.out / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"} <= names
    assert "model.safetensors" not in names
    where = str(tmp_path.parent).encode()  # the base model and the job are below it
    assert not [name for name, content in shipped(job).items() if where in content]
    summary = tiny_model.read(job.out / "summary.json")
    assert summary["trainable_parameters"] == 8704


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_checkpoint_is_shipped(prepare: Callable[..., Job], keep: str) -> None:
    job = prepare(
        rows=tiny_model.rows(8, answer="red red"),  # ever more wrong for the validation rows
        held=tiny_model.rows(4, "validation", answer="blue blue"),
        trainer__keep=keep,
        trainer__min_steps=30,
        trainer__lr=5e-3,
        trainer__evaluations=6,
    )
    finetune.run(job)
    curve = tiny_model.read(job.out / "curve.jsonl")
    measured = [line["validation_loss"] for line in curve if line["validation_loss"] is not None]
    assert len(measured) == 6
    assert measured[-1] > min(measured) + 0.1
    wanted = min(measured) if keep == "best" else measured[-1]
    assert validation_loss(job) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_training_stops_when_validation_no_longer_improves(prepare: Callable[..., Job]) -> None:
    job = prepare(
        rows=tiny_model.rows(8, answer="red red"),
        held=tiny_model.rows(4, "validation", answer="blue blue"),
        trainer__min_steps=30,
        trainer__lr=5e-3,
        trainer__evaluations=10,
        trainer__patience=2,
    )
    finetune.run(job)
    summary = tiny_model.read(job.out / "summary.json")
    assert summary["steps"] == summary["best_step"] + 6 < 30
    before = shipped(job)
    shutil.rmtree(job.out)  # a crash after the last checkpoint, before the result is published
    job.out.mkdir()
    finetune.run(job)
    assert shipped(job) == before


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"trainer__kind": "lora", "trainer__packing": True}])
def test_a_run_that_goes_on_after_a_crash_ships_the_same_bytes(
    prepare: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    from understudy.training.trainer import Schedule

    changes = changes | {"trainer__min_steps": 12, "trainer__per_device_batch": 2}
    whole = prepare("whole", **changes)
    finetune.run(whole)

    def crash(self: Schedule, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 6:  # two steps after a checkpoint, in the midst of an epoch
            raise KeyboardInterrupt

    torn = prepare("torn", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "on_step_begin", crash)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(torn)
    checkpoints = torn.scratch / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-4"}
    shutil.copytree(checkpoints / "checkpoint-4", checkpoints / "checkpoint-9")
    for name in ("COMPLETE", "trainer_state.json", "optimizer.pt"):  # torn while it was written
        (checkpoints / "checkpoint-9" / name).unlink()
    torn.scratch.parent.rename(torn.scratch.parent.with_name("renamed"))
    steps: list[int] = []

    def record(self: Schedule, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps.append(state.global_step)

    renamed = prepare("renamed", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "on_step_begin", record)
        finetune.run(renamed)
    assert steps == list(range(4, 12))
    assert shipped(renamed) == shipped(whole)


@pytest.mark.slow
def test_a_signal_during_training_costs_no_step_and_changes_no_byte(
    prepare: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from understudy.training.trainer import Schedule

    changes = {"trainer__min_steps": 12, "trainer__per_device_batch": 2}
    whole, cut = prepare("whole", **changes), prepare("cut", **changes)
    finetune.run(whole)

    def preempt(self: Schedule, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 6:  # in the midst of an epoch, and not where one is planned
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "on_step_begin", preempt)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(cut)
    assert "interrupted, a checkpoint is at step 7 of 12" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    kept = {path.name for path in (cut.scratch / "checkpoints").iterdir()}
    assert kept == {"checkpoint-4", "checkpoint-7"}  # the best so far, and the newest
    finetune.run(cut)
    assert shipped(cut) == shipped(whole)


@pytest.mark.slow
def test_checkpoints_by_time_cost_a_crash_fewer_steps_and_change_no_byte(
    prepare: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    from understudy.training.trainer import Schedule

    changes = {"trainer__min_steps": 12, "trainer__per_device_batch": 2}
    whole = prepare("whole", **changes)
    finetune.run(whole)
    cut = prepare("cut", trainer__checkpoint_minutes=1e-6, **changes)

    def crash(self: Schedule, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "on_step_begin", crash)
        with pytest.raises(KeyboardInterrupt):
            finetune.run(cut)
    kept = {path.name for path in (cut.scratch / "checkpoints").iterdir()}
    assert kept == {"checkpoint-4", "checkpoint-7"}  # the best so far, and the newest
    finetune.run(cut)
    assert shipped(cut) == shipped(whole)


@pytest.mark.slow
def test_memory_that_runs_out_is_answered_by_what_to_change(
    prepare: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from understudy.training.trainer import Schedule

    def allocate(self: Schedule, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 5:
            torch.empty(1 << 50)  # a real failure of the allocator

    monkeypatch.setattr(Schedule, "on_step_begin", allocate)
    job = prepare(trainer__min_steps=12, trainer__batch_size=4)
    with pytest.raises(EnvironmentFailed, match=r"set trainer\.per_device_batch=2 \(now 4\)"):
        finetune.run(job)
    assert (job.scratch / "checkpoints" / "checkpoint-4" / "COMPLETE").is_file()


@pytest.mark.slow
def test_a_sharded_checkpoint_is_read_by_what_wrote_it_only(prepare: Callable[..., Job]) -> None:
    job = prepare(trainer__max_steps=1)
    torn = job.scratch / "checkpoints" / "checkpoint-1"
    torn.mkdir(parents=True)
    (torn / "COMPLETE").write_text("accelerate=zero2 in 2 processes")
    with pytest.raises(BadInput, match="was written by accelerate=zero2 in 2 processes and cannot"):
        finetune.run(job)


@pytest.mark.slow
def test_packed_rows_do_not_see_one_another(prepare: Callable[..., Job]) -> None:
    changes = {"trainer__lr": 1e-9, "trainer__batch_size": 10, "trainer__max_steps": 1}
    losses = []
    for packing in (False, True):
        job = prepare(str(packing), trainer__packing=packing, **changes)
        finetune.run(job)
        summary = tiny_model.read(job.out / "summary.json")
        losses.append([summary["final_train_loss"], summary["best_validation_loss"]])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_start_previous_goes_on_from_the_earlier_model(
    prepare: Callable[..., Job], kind: str
) -> None:
    changes: dict[str, Any] = {"trainer__kind": kind, "trainer__start": "previous"}
    changes["data_size"] = None
    first = prepare("first", **changes, trainer__lr=1e-2, trainer__min_steps=12)
    finetune.run(first)
    second = prepare(
        "second", previous=first.out, **changes, trainer__lr=1e-9, trainer__max_steps=1
    )
    finetune.run(second)
    end = tiny_model.read(first.out / "curve.jsonl")[-1]
    (start,) = tiny_model.read(second.out / "curve.jsonl")
    assert start["validation_loss"] == pytest.approx(end["validation_loss"], abs=1e-4)


@pytest.mark.slow
def test_rows_over_max_length_are_dropped_and_counted_never_cut(
    prepare: Callable[..., Job],
) -> None:
    long = tiny_model.row("long", "What is it?", "red " * 60)
    job = prepare(rows=[*tiny_model.rows(4), long], trainer__max_steps=1)
    finetune.run(job)
    summary = tiny_model.read(job.out / "summary.json")
    assert (summary["rows"], summary["rows_over_length"]) == (4, 1)
    assert job.notes["warnings"][0].startswith("finetune: 1 of the 5 training rows cannot be used")
    most = [*tiny_model.rows(3), long]
    with pytest.raises(BadInput, match=r"1 of the 4 training rows .*coverage\.tolerance"):
        finetune.run(prepare("most", rows=most))
    finetune.run(prepare("allowed", rows=most, coverage__tolerance=0.5, trainer__max_steps=1))
    with pytest.raises(BadInput, match="none of the 1 training rows can be used: 1 are longer"):
        finetune.run(prepare("all", rows=[long]))


@pytest.mark.slow
def test_best_needs_validation_rows_and_last_does_not(prepare: Callable[..., Job]) -> None:
    with pytest.raises(BadInput, match=r"raise coverage\.split\.validation, or give trainer\.keep"):
        finetune.run(prepare("best", held=[]))
    job = prepare("last", held=[], trainer__keep="last", trainer__max_steps=2)
    finetune.run(job)
    summary = tiny_model.read(job.out / "summary.json")
    assert (summary["steps"], summary["best_validation_loss"]) == (2, None)


@pytest.mark.slow
def test_a_stop_token_outside_the_loss_ends_the_run_before_the_first_step(
    prepare: Callable[..., Job],
) -> None:
    job = prepare(model__stop=["<|im_start|>"])
    with pytest.raises(BadInput, match="would never learn to stop"):
        finetune.run(job)
    assert not list(job.scratch.rglob("checkpoint-*"))


@pytest.mark.slow
def test_a_diverged_training_is_refused(prepare: Callable[..., Job]) -> None:
    job = prepare(trainer__lr=1e30, trainer__schedule="constant_with_warmup")
    with pytest.raises(EnvironmentFailed, match=r"training diverged: .* lower trainer\.lr=1e\+30"):
        finetune.run(job)
    # What is left on disk is from before the numbers broke.
    for path in job.scratch.glob("checkpoints/*/model.safetensors"):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(path).values())
