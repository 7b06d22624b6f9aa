"""`understudy report`: the page of a run or a sweep, and the figure that compares several runs.

The drawing code is the repository's `analysis/` package, loaded from the checkout or the wheel:

    python -m understudy.report.page --curve 'curve-*' --root runs --out experiments/curve/curve.svg
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from understudy import locations
from understudy.errors import BadInput, UnderstudyError
from understudy.pipeline.record import RunRecord, run_files

_NAME = "understudy_analysis"


def load_analysis() -> ModuleType:
    """Return the `analysis/` package, importable under a name of its own from any directory."""
    if _NAME not in sys.modules:
        folder = locations.shared("analysis")
        spec = importlib.util.spec_from_file_location(
            _NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None, f"{folder} is no package"
        assert spec.loader is not None, f"{folder} has no __init__.py"
        module = importlib.util.module_from_spec(spec)
        sys.modules[_NAME] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[_NAME]  # half a module would hide the cause from the next caller
            raise
    return sys.modules[_NAME]


def report(run_json: Path) -> Path:
    """Write `report.html` beside `run.json`."""
    run = RunRecord.read(run_json)
    page: Path = load_analysis().write_report(run, run.path.parent / "report.html")
    return page


def sweep_report(sweep_json: Path) -> Path:
    """Write `report.html` beside `sweep.json`."""
    page: Path = load_analysis().write_sweep(sweep_json, sweep_json.with_name("report.html"))
    return page


def curve(root: Path, pattern: str, out: Path) -> Path:
    """Draw score against data size for all runs whose name matches; numbers go to a .md beside."""
    found = [path for path in run_files(root) if path.parent.match(pattern)]
    if not found:
        raise BadInput(f"no run below {root} matches {pattern!r}; `understudy status` lists runs")
    roots = {path.parents[2] for path in found}
    if len(roots) > 1:
        raise BadInput(f"{pattern!r} matches real and rehearsal runs, which never share a figure")
    names = sorted(path.parent.name for path in found)
    figure: Path = load_analysis().write_curve(roots.pop(), names, out)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the figure of several runs."""
    parser = argparse.ArgumentParser(
        prog="python -m understudy.report.page", description=main.__doc__
    )
    parser.add_argument("--curve", required=True, metavar="PATTERN", help="run names, with * and ?")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="paths.root of the runs")
    parser.add_argument("--out", type=Path, required=True, help="the figure: .svg or .png")
    given = parser.parse_args(arguments)
    try:
        print(curve(given.root, given.curve, given.out))
    except UnderstudyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
