"""The wheel is complete: installed by README's command, it works from any directory.

`UNDERSTUDY_PYTHONS="3.12 3.13"` names versions of Python to install it for with all that it needs
(`make soak`). For this one it borrows what the wheel declares from what is installed here, and
nothing else, which takes seconds.
"""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreter(version: str) -> str:
    """Return the interpreter of a version: this one, one on PATH, or one that pyenv installed."""
    if version == HERE:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python")]
    for candidate in candidates:  # a shim of pyenv is on PATH also where it runs nothing
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return str(candidate)
    pytest.skip(f"Python {version} is neither on PATH nor below {pyenv}")


def needed(wheel: Path) -> set[str]:
    """The distributions that a wheel needs without extras, and what those need."""
    (own,) = metadata.distributions(path=[str(wheel)])
    found, left = set[str](), [Requirement(text) for text in own.requires or ()]
    for wanted in left:
        marks = [{"extra": extra} for extra in ("", *wanted.extras)]
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        found.add(wanted.name)
        for text in metadata.requires(wanted.name) or ():
            inner = Requirement(text)
            is_on = inner.marker is None or any(inner.marker.evaluate(mark) for mark in marks)
            if is_on and inner.name not in found and inner not in left:
                inner.marker = None
                left.append(inner)
    return found


def borrow(names: set[str], place: Path) -> None:
    """Link what these distributions have installed here into another site-packages."""
    for name in names:
        whole = metadata.distribution(name)
        for top in {file.parts[0] for file in whole.files or ()} - {"..", "__pycache__"}:
            here = Path(str(whole.locate_file(top)))
            if here.exists() and not (place / top).exists():
                (place / top).symlink_to(here)


@pytest.mark.slow
@pytest.mark.parametrize("version", os.environ.get("UNDERSTUDY_PYTHONS", HERE).split())
def test_the_wheel_runs_a_migration_and_reports_it_from_another_directory(
    version: str, tmp_path: Path
) -> None:
    wheels, elsewhere = tmp_path / "dist", tmp_path / "elsewhere"
    elsewhere.mkdir()
    ours = ("UNDERSTUDY", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    def call(*command: str | Path, at: Path = elsewhere) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=at, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    call(sys.executable, "-m", "build", "--wheel", "--outdir", wheels, ".", at=PROJECT)
    (wheel,) = wheels.iterdir()
    call(interpreter(version), "-m", "venv", tmp_path / "venv")
    bin_ = tmp_path / "venv" / "bin"
    if version == HERE:
        call(bin_ / "pip", "install", "-q", "--no-deps", wheel)
        place = call(bin_ / "python", "-c", "import site; print(site.getsitepackages()[0])")
        borrow(needed(wheel), Path(place.strip()))
    else:
        constraints = PROJECT / "constraints.txt"
        call(bin_ / "pip", "install", "-q", "-c", constraints, "torch==2.13.0", wheel)

    short = ("loop.sizes=[0,50]", "trainer.max_steps=4", "trainer.evaluations=1")
    shown = call(bin_ / "understudy", "run", "experiment=demo", *short)
    assert f"report: {elsewhere}/runs/rehearsal/run/demo/report.html" in shown
    page = call(bin_ / "understudy", "report").strip().removeprefix("report: ")
    assert "REHEARSAL" in Path(page).read_text(encoding="utf-8")
    assert "conf/experiment/demo.yaml" in call(bin_ / "understudy", "config", "experiment=demo")
    assert {path.name for path in elsewhere.iterdir()} == {"runs"}
