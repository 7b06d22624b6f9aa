"""The command line that all tables and figures share."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from understudy.config.compose import runs_root
from understudy.errors import UnderstudyError

from . import sources

Build = Callable[..., Sequence[Path]]  # of the data, the folder, and options by name


def parser(
    module: str, description: str, needs_sources: bool = True, out: Path | None = None
) -> argparse.ArgumentParser:
    """Return a parser of RUN… --root --out; `out` is the default folder, None = none."""
    made = argparse.ArgumentParser(
        prog=f"python -m analysis.{module}",
        description=description,
        epilog="Reads finished stages only; runs no model and asks no judge.",
    )
    made.add_argument(
        "sources",
        nargs="+" if needs_sources else "*",
        metavar="RUN",
        help="a run (name, pattern or path), a sweep, a file of published evaluations, or "
        "hub:OWNER/NAME; TASK=FILE says a file's task",
    )
    made.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only these, by what the runs differ in: a leaf or group, seed, judge … (again: and)",
    )
    made.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    made.add_argument(
        "--out", type=Path, required=out is None, default=out, metavar="DIR", help="where files go"
    )
    return made


def run(made: argparse.ArgumentParser, build: Build, arguments: Sequence[str] | None) -> int:
    """Load, build with the options that `made` adds, and print what was written.

    Returns 0, or 2 after one sentence where the input is bad.
    """
    options = vars(made.parse_args(arguments))
    named, root, out, only = (options.pop(name) for name in ("sources", "root", "out", "only"))
    try:
        for path in build(sources.load(named, runs_root(root), only), out, **options):
            print(path)
    except UnderstudyError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0
