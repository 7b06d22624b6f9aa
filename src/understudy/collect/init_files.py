"""The option files that `understudy init` writes: a coverage and an experiment."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from understudy import locations
from understudy.config.command_line import quoted, without_interpolation
from understudy.errors import BadInput
from understudy.store.artifacts import write_atomically

if TYPE_CHECKING:
    from understudy.collect.init import Proposal


def option(path: Path) -> str:
    """The name of the options for a file; never that of an option that ships with understudy."""
    name = re.sub(r"[^a-z0-9]+", "_", path.name.partition(".")[0].casefold()).strip("_") or "data"
    conf = locations.shared("conf")
    taken = [(conf / group / f"{name}.yaml").is_file() for group in ("coverage", "experiment")]
    is_text = quoted(name) == name  # null.jsonl makes no option called null
    return name if is_text and not any(taken) else f"my_{name}"


def files(proposal: "Proposal", out: Path) -> dict[Path, str]:
    """Path → text."""
    name = option(proposal.path)
    return {
        out / "coverage" / f"{name}.yaml": coverage(proposal),
        out / "experiment" / f"{name}.yaml": experiment(proposal, name),
    }


def check(wanted: dict[Path, str], force: bool) -> None:
    """BadInput when a file would be overwritten."""
    if not force and (there := [str(path) for path in wanted if path.exists()]):
        raise BadInput(f"{there[0]} exists already; give --force to overwrite it")


def write(wanted: dict[Path, str]) -> None:
    """Write every file."""
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)


def coverage(proposal: "Proposal") -> str:
    """The option file of the group `coverage`."""
    found, split = proposal.found, proposal.split
    licences = list(proposal.licences)
    licence = "null         # of rows that do not say; please give it"
    if licences:
        licence = "null         # every row of the file can say it in its own column"
    lines = [
        f"# {proposal.rows} rows of {_shown(proposal.path)}, as `understudy init` found them",
        "defaults:",
        "  - file",
        "  - _self_",
        f"path: {_text(str(proposal.path.absolute()))}",
        f"format: {found.format}",
        f"licence: {licence}",
    ]
    if proposal.category is not None:
        lines += ["categories:", f"  {proposal.task}: {_text(proposal.category)}"]
    if found.bad:
        share = len(found.bad) / found.total
        lines.append(f"# {len(found.bad)} bad rows ({share:.1%}): tolerance is 0.01 unless raised")
    lines += [
        "split:               # below 1 a share of all rows, from 1 a number; train is the rest",
        *(f"  {name}: {getattr(split, name):g}" for name in ("validation", "test", "holdout")),
    ]
    return "\n".join(lines) + "\n"


def _shown(path: Path) -> str:
    """A file's name on one line."""
    return path.name if path.name.isprintable() else ascii(path.name)


def _text(text: str) -> str:
    """A text as YAML that neither YAML nor Hydra reads anything into."""
    text = without_interpolation(text)
    line = yaml.dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return line.rstrip("\n")


def experiment(proposal: "Proposal", name: str) -> str:
    """The option file of the group `experiment`: a first run on the human rows alone."""
    return f"""# @package _global_
# {_shown(proposal.path)}: human rows only, judged by the offline stand-in, so it costs nothing;
# then choose a judge, a synthesis and a baseline, and drop data_size to climb the ladder
defaults:
  - override /coverage: {name}
  - override /task: {proposal.task}
  - override /baseline: none
data_size: 0
run:
  name: {name}
"""
