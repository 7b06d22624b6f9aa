"""A site's ways: which code, which Python and which container the jobs of a submission run in.

`slurm/{run,sweep}/<name>/python-<digest>` is a script that starts Python for the stages' jobs,
`planner-<digest>` for the job that submits what comes next, which needs Slurm's commands and so
never runs in a container; `code-<digest>` is what both run: a copy of this package as it was when
the jobs were submitted, for a checkout moves on while they wait.
"""

import atexit
import hashlib
import json
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from understudy import locations
from understudy.config.cluster import ClusterConfig
from understudy.errors import BadInput
from understudy.pipeline.worker import commit
from understudy.store.artifacts import write_atomically

_SHARED = ("conf", "analysis", "slurm")


class Pythons(NamedTuple):
    """Where the scripts are that start Python in a job."""

    stages: Path
    planner: Path


def setup_file(cluster: ClusterConfig) -> Path | None:
    """Return the script that every job sources first."""
    return Path(cluster.setup).expanduser().absolute() if cluster.setup else None


def pythons(cluster: ClusterConfig, folder: Path) -> Pythons:
    """Return the scripts of a submission; nothing is written."""
    name = _name(cluster)
    return Pythons(folder / f"python-{name}", folder / f"planner-{name}")


def write(cluster: ClusterConfig, folder: Path, is_idle: bool) -> None:
    """Write both scripts and the copy of the code; while no job of ours waits, drop older ones.

    Raises BadInput where `cluster.setup` is no file.
    """
    setup = setup_file(cluster)
    if setup is not None and not setup.is_file():
        raise BadInput(f"cluster.setup={cluster.setup} is no file; every job would source it")
    code = _code(folder) if cluster.snapshot else None
    if is_idle:
        clean(folder, but=code)
    if code is not None and not code.is_dir():
        _copy(code)
    for script, is_contained in zip(pythons(cluster, folder), (True, False), strict=True):
        write_atomically(script, _script(cluster, code, is_contained))
        script.chmod(0o755)


def clean(folder: Path, but: Path | None = None) -> None:
    """Remove the copies of the code; the one that this process runs goes when it ends."""
    for path in folder.glob("code-*"):
        if path == _running():
            if path != but:
                atexit.register(shutil.rmtree, path, ignore_errors=True)
        elif path != but:
            shutil.rmtree(path, ignore_errors=True)


def described(cluster: ClusterConfig) -> str:
    """Return how a job starts Python, for a dry run."""
    words = [*cluster.container, _python(cluster, is_contained=True)]
    of = "a copy of this code" if cluster.snapshot else "the code as it is then"
    return f"each job starts {shlex.join(words)} on {of}"


def _name(cluster: ClusterConfig) -> str:
    """Other code or another way to start it has other scripts: jobs may still wait for the old."""
    told = [*cluster.container, str(cluster.python), sys.executable]
    told.append(_digest() if cluster.snapshot else "")
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:8]


def _script(cluster: ClusterConfig, code: Path | None, is_contained: bool) -> str:
    lines = ["#!/usr/bin/env bash", "# Starts Python in a job; written by understudy"]
    start = [_python(cluster, is_contained)]
    if code is not None:
        gone = f"understudy: {code}, the code of this job, is gone; type its command again"
        lines.append(
            f"[ -d {shlex.quote(str(code))} ] || {{ echo {shlex.quote(gone)} >&2; exit 4; }}"
        )
        # A directory `understudy` where the command was typed must not come before it.
        start = ["env", "PYTHONSAFEPATH=1", f"PYTHONPATH={code / 'src'}", *start]
    words = [*(cluster.container if is_contained else ()), *start]
    return "\n".join([*lines, f'exec {shlex.join(words)} "$@"', ""])


def _python(cluster: ClusterConfig, is_contained: bool) -> str:
    if is_contained and cluster.python is not None:
        return str(Path(cluster.python).expanduser())
    return sys.executable


# --- the code -------------------------------------------------------------------------------------


def _running() -> Path | None:
    """The copy that this process runs, if it is one."""
    home = locations.PACKAGE.parents[1]
    return home if (home / "commit.json").is_file() else None


def _code(folder: Path) -> Path:
    return folder / f"code-{_digest()}"


def _files() -> Iterator[tuple[Path, Path]]:
    """The files that this process runs, and where each is in a copy."""
    places = {locations.PACKAGE: Path("src/understudy")}
    checkout = locations.PACKAGE.parents[1]
    if (checkout / "pyproject.toml").is_file():
        places |= {checkout / name: Path(name) for name in (*_SHARED, "pyproject.toml")}
    for place, home in places.items():
        found = [place] if place.is_file() else sorted(place.rglob("*"))
        for path in found:
            is_made = {"__pycache__", "local"} & set(path.relative_to(place).parts)
            if path.is_file() and not is_made:
                yield path, home / path.relative_to(place)


_DIGESTS: list[str] = []


def _digest() -> str:
    """Names the code: of the contents once, for this process runs what it was started with."""
    if not _DIGESTS:
        total = hashlib.sha256(json.dumps(commit()).encode())
        for path, home in _files():
            total.update(f"{home}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        _DIGESTS.append(total.hexdigest()[:12])
    return _DIGESTS[0]


def _copy(code: Path) -> None:
    """Copy the code under a name of its own, then rename: whoever sees it sees all of it."""
    made = code.with_name(f".{code.name}.{secrets.token_hex(4)}")
    for path, home in _files():
        (made / home).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, made / home)
    write_atomically(made / "commit.json", json.dumps(commit()))
    try:
        made.rename(code)
    except OSError:  # another command was faster
        if not code.is_dir():
            raise
        shutil.rmtree(made)
