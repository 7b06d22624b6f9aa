"""Attempts on a disk of the node: moved there and back, whatever ends them."""

import shutil
import time
from pathlib import Path

import pytest

from support import launched
from understudy.errors import EnvironmentFailed
from understudy.store import local
from understudy.store.artifacts import StageDir


@pytest.fixture
def stage(tmp_path: Path) -> StageDir:
    return StageDir(tmp_path / "runs" / "finetune" / "0123")


def begun(stage: StageDir, node: Path) -> tuple[Path, Path]:
    """An attempt, and where the node works on it."""
    attempt = stage.open_attempt()
    return attempt, local.borrow(attempt, str(node))


def text(work: Path) -> str:
    return (work / "scratch" / "rows").read_text()


def test_without_a_place_the_attempt_itself_is_worked_on(stage: StageDir) -> None:
    attempt = stage.open_attempt()
    assert local.borrow(attempt, None) == attempt
    assert local.give_back(attempt, attempt, is_done=True) == attempt


def test_what_is_done_comes_back_without_its_scratch_and_nothing_is_left(
    stage: StageDir, tmp_path: Path
) -> None:
    attempt, work = begun(stage, tmp_path / "node")
    assert work.is_relative_to(tmp_path / "node")
    (work / "out" / "rows.jsonl").write_text("{}\n")
    (work / "scratch" / "big").write_text("…")
    assert not list(attempt.rglob("rows.jsonl"))
    stage.publish(local.give_back(work, attempt, is_done=True), {})
    assert {path.name for path in stage.out.iterdir()} == {"rows.jsonl"}
    assert {path.name for path in stage.path.iterdir()} == {"out", "DONE", "meta.json"}
    assert not list((tmp_path / "node").glob("*/*"))


def test_what_is_interrupted_goes_on_at_another_node(stage: StageDir, tmp_path: Path) -> None:
    for number, node in enumerate(("one", "two", "one")):
        attempt, work = begun(stage, tmp_path / node)
        place = work / "scratch" / "rows"
        place.write_text((place.read_text() if number else "") + node)
        local.give_back(work, attempt, is_done=False)
    assert text(stage.open_attempt()) == "onetwoone"
    assert not list(tmp_path.glob("*/understudy-*/*"))


def test_what_is_killed_goes_on_at_its_node_alone(stage: StageDir, tmp_path: Path) -> None:
    attempt, work = begun(stage, tmp_path / "one")
    (work / "scratch" / "rows").write_text("saved")
    local.give_back(work, attempt, is_done=False)
    _, work = begun(stage, tmp_path / "one")
    (work / "scratch" / "rows").write_text("more")  # and a kill
    attempt, work = begun(stage, tmp_path / "one")
    assert text(work) == "more"
    elsewhere = begun(stage, tmp_path / "two")[1]
    assert text(elsewhere) == "saved"
    (elsewhere / "scratch" / "rows").write_text("from two")
    local.give_back(elsewhere, *stage.path.glob("attempts/*"), is_done=False)
    assert text(begun(stage, tmp_path / "one")[1]) == "from two"  # not what one had


def test_a_kill_while_it_is_moved_back_loses_neither_side(
    stage: StageDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, work = begun(stage, tmp_path / "node")
    (work / "scratch" / "rows").write_text("saved")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            local.give_back(work, attempt, is_done=False)
    assert text(begun(stage, tmp_path / "node")[1]) == "saved"


def test_a_place_that_the_node_has_not_is_one_sentence(stage: StageDir, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    attempt = stage.open_attempt()
    with pytest.raises(EnvironmentFailed, match=r"scratch=\$NOWHERE/x on .* no such variable"):
        local.borrow(attempt, "$NOWHERE/x")
    with pytest.raises(EnvironmentFailed, match=r"file on .* cannot be used: Not a directory"):
        local.borrow(attempt, str(tmp_path / "file"))


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_from_the_nodes_disk(tmp_path: Path, base: Path) -> None:
    steps = {"trainer__min_steps": 60, "trainer__evaluations": 30}
    whole = launched.prepare(tmp_path / "whole", base, **steps)
    assert launched.run(whole)[0] == 0
    node = tmp_path / "node"
    stage = launched.prepare(tmp_path / "killed", base, cluster__scratch=str(node), **steps)
    with launched.start(stage) as worker:
        while not [*node.glob("understudy-*/*/scratch/checkpoints/*/COMPLETE")]:
            assert worker.poll() is None, "it has ended"
            time.sleep(0.02)
        worker.kill()
    assert not stage.is_done
    (seen,) = stage.path.glob("attempts/*/scratch/*")  # all else is on the node
    assert "train_loss" in seen.read_text(), seen
    assert launched.run(stage)[0] == 0
    for name in ("model/model.safetensors", "curve.jsonl", "summary.json"):
        assert (stage.out / name).read_bytes() == (whole.out / name).read_bytes(), name
    assert not [*node.glob("understudy-*/*")]
    assert {path.name for path in stage.out.iterdir()} == {"model", "curve.jsonl", "summary.json"}
