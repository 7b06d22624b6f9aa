"""An annex can be taken away: its folder, its verbs and its options; the spine still works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import house

# annex → its modules in cli/ and its options in conf/
PARTS = {
    "sweep": (("cluster", "prefetch"), ("sweep",)),
    "plan": (("plan", "preview"), ()),
    "collect": (("collect", "init"), ()),
    "rehearsal": (("rehearse",), ()),
    "export": (("export",), ()),
    "serve": (("serve",), ()),
    "gateway": (("gateway",), ()),
    "routing": (("route",), ("experiment/routing",)),
    "judges": (("judges",), ()),
    "labelling": (("label",), ()),
    "watch": (("watch",), ()),
    "forget": (("forget",), ()),
}
LOOP = (  # two rounds of a ladder on the playground, a fine-tuning and a teacher among them
    *("run", "task=classification", "coverage.rows=24", "coverage.split.test=4"),
    *("coverage.split.validation=4", "loop.sizes=[0,8]", "gate.precision=100", "evaluation.m=1"),
    *("trainer.max_steps=1", "trainer.evaluations=1", "inference.k=1", "run.name=small"),
    "inference.max_new_tokens=8",
)


def without(annexes: tuple[str, ...], at: Path) -> Path:
    """Copy the checkout without some annexes; returns the folder of its package."""
    for name in ("src", "conf", "analysis", "slurm"):
        shutil.copytree(
            house.ROOT / name, at / name, ignore=shutil.ignore_patterns("__pycache__", "local")
        )
    shutil.copy(house.ROOT / "pyproject.toml", at)
    verbs = [verb for annex in annexes for verb in PARTS[annex][0]]
    options = [option for annex in annexes for option in PARTS[annex][1]]
    package = at / "src" / "understudy"
    for annex in annexes:
        shutil.rmtree(package / annex)
    table = package / "cli" / "main.py"
    text = table.read_text(encoding="utf-8")
    for verb in verbs:
        (package / "cli" / f"{verb}.py").unlink()
        text, count = re.subn(rf"(?<![\w.]){verb}(?:, |,\n|(?=\)))", "", text)
        assert count == 2, f"{verb} stands in the table of verbs and its import"
    table.write_text(text, encoding="utf-8")
    for option in options:
        shutil.rmtree(at / "conf" / option)
        config = at / "conf" / "config.yaml"
        lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith(f"  - {option}:")]
        config.write_text("".join(kept), encoding="utf-8")
    return package


ALONE = [pytest.param((annex,), id=annex, marks=pytest.mark.soak) for annex in house.ANNEXES]
ALL = pytest.param(tuple(house.ANNEXES), id="all of them", marks=pytest.mark.slow)


@pytest.mark.parametrize("annexes", [ALL, *ALONE])
def test_without_annexes_a_small_loop_runs_and_is_reported(
    annexes: tuple[str, ...], tmp_path: Path
) -> None:
    package = without(annexes, tmp_path / "copy")
    environment = os.environ | {"PYTHONPATH": str(package.parent), "UNDERSTUDY_ROOT": "runs"}

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "understudy", *words],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    for verb in (verb for annex in annexes for verb in PARTS[annex][0]):
        assert not re.search(rf"^    {verb}(?: |$)", call("--help"), re.MULTILINE)
    assert re.search(r"^stages run: [1-9]", call(*LOOP), re.MULTILINE)
    assert "round 1" in call("status", "small")
    assert Path(call("report", "small").strip().removeprefix("report: ")).is_file()


def test_every_annex_has_its_parts_named() -> None:
    assert set(PARTS) == set(house.ANNEXES)
