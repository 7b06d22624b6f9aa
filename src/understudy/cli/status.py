"""The verbs `status` and `report`: what a run or a sweep has done so far."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any


def register(verbs: Any) -> None:
    """Add `status` and `report` to the verbs."""
    for name, verb, help_ in (
        ("status", _status, "show what a run has done, and how to go on"),
        ("report", _report, "write the report of a run or a sweep: one self-contained HTML page"),
    ):
        sub = verbs.add_parser(name, help=help_, description=help_)
        sub.set_defaults(verb=verb)
        sub.add_argument(
            "run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)"
        )
        sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")


def _status(arguments: argparse.Namespace) -> None:
    from understudy.config.compose import runs_root
    from understudy.pipeline import status
    from understudy.pipeline.record import find_run

    root = runs_root(arguments.root)
    if (found := sweep_named(root, arguments.run)) is not None:
        from understudy.sweep import show

        show.show(found)
    else:
        status.show(find_run(root, arguments.run))


def _report(arguments: argparse.Namespace) -> None:
    from understudy.config.compose import runs_root
    from understudy.pipeline.record import find_run
    from understudy.report.page import report, sweep_report

    root = runs_root(arguments.root)
    if (found := sweep_named(root, arguments.run)) is None:
        print(f"report: {report(find_run(root, arguments.run))}")
        return
    from understudy.sweep.record import SweepRecord

    for run_json in SweepRecord.read(found).begun:
        page = run_json.with_name("report.html")
        if not page.is_file() or page.stat().st_mtime_ns < run_json.stat().st_mtime_ns:
            report(run_json)  # what the sweep's page links to
    print(f"report: {sweep_report(found)}")


def sweep_named(root: Path, name: str | None) -> Path | None:
    """Return the sweep.json of this name, if any; loading the annex lets `status` ask Slurm."""
    if importlib.util.find_spec("understudy.sweep") is None:  # an annex can be taken away
        return None
    from understudy.sweep.record import find_sweep

    return find_sweep(root, name)
