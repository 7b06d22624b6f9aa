"""The verb `run`: one run, or a sweep of runs, on this machine or on a cluster."""

import argparse
import importlib.util
import math
import sys
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput, UnderstudyError

if TYPE_CHECKING:
    from understudy.config.compose import Grid

_HELP = "run the rounds until the gate passes or the ladder ends; resumes"
_REHEARSAL = "rehearsal: stand-ins are asked, no result of it is about an LLM"


def register(verbs: Any) -> None:
    """Add `run` to the verbs."""
    sub = verbs.add_parser("run", help=_HELP, description=_HELP)
    sub.set_defaults(verb=_run)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="group=option or key=value")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")
    sub.add_argument("-m", "--multirun", action="store_true", help="let Hydra sweep")


def _run(arguments: argparse.Namespace) -> int:
    from understudy import config
    from understudy.config.compose import compose, grid
    from understudy.models import ranks
    from understudy.pipeline import run as pipeline
    from understudy.report.page import report

    ranks.end_like_ctrl_c()  # `kill`, systemd, a container that stops
    if arguments.multirun:
        return _multirun(arguments)
    if (found := grid(arguments.overrides, arguments.config_dir)).axes:
        return _sweep(arguments, found)
    composed = config.build(compose(arguments.overrides, arguments.config_dir))
    run = pipeline.Run(composed, _typed(arguments, arguments.overrides))
    print(f"{run.directory.name}: {run.directory}", file=sys.stderr)
    if composed.is_rehearsal:
        print(_REHEARSAL, file=sys.stderr)
    if importlib.util.find_spec("understudy.sweep") is not None:  # an annex can be taken away
        from understudy.cli.cluster import check_name, submit

        if composed.cluster.kind == "local":
            check_name(run.directory, [run])
        elif submit(run.directory, [run], run.command):
            return 0
    decision = run.execute()
    page = run.directory / "report.html"
    if run.computed or not page.is_file():
        page = report(run.record.path)
    print(f"{'passed' if decision.passed else 'not passed'}: {decision.reason}")
    print(f"stages run: {run.computed}")
    print(f"report: {page}")
    return 0


def _typed(arguments: argparse.Namespace, overrides: list[str]) -> list[str]:
    """The command that runs these overrides."""
    own = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    return ["understudy", "run", *overrides, *own]


def _sweep(arguments: argparse.Namespace, found: "Grid") -> int:
    from understudy.cli.cluster import check_name, submit
    from understudy.config.compose import Composer
    from understudy.sweep import cells as sweep_cells
    from understudy.sweep import show, sweep

    cells = sweep_cells.expand(found, Composer(arguments.config_dir))
    command = _typed(arguments, arguments.overrides)
    job = sweep.Sweep(cells, command, lambda overrides: _typed(arguments, overrides))
    if cells.cells[0].config.cluster.kind != "local":
        runs = [lane.run for lane in job.lanes]
        if submit(job.directory, runs, job.record.command, job.record.write):
            return 0
    else:
        check_name(job.directory, [lane.run for lane in job.lanes])
    print(f"{cells.name}: {job.outline()}", file=sys.stderr)
    if job.record.rehearsal:
        print(_REHEARSAL, file=sys.stderr)
    code = job.execute()
    show.show(job.record.path)
    print(f"cells: {len(cells.cells)}, stages run: {job.computed}, finished before: {job.kept}")
    return code


def _multirun(arguments: argparse.Namespace) -> int:
    """Let Hydra sweep, one cell after the other, its own files below paths.root."""
    from understudy.config import compose as composing
    from understudy.pipeline import run as pipeline
    from understudy.sweep import cells as sweep_cells
    from understudy.sweep.show import objective

    if composing.is_search(arguments.overrides):
        return _search(arguments)
    grid = composing.grid(arguments.overrides, arguments.config_dir)
    cells = sweep_cells.expand(grid, composing.Composer(arguments.config_dir))
    if (kind := cells.cells[0].config.cluster.kind) != "local":
        raise BadInput(f"-m runs cell after cell on this machine; leave it out with cluster={kind}")
    by_label = {cell.label: cell for cell in cells.cells}
    codes, runs = [0], list[pipeline.Run]()

    def job(overrides: list[str], values: dict[str, Any]) -> float:
        cell = by_label[sweep_cells.label_of(overrides, cells.axes)]
        try:
            run = pipeline.Run(cell.as_in(values), _typed(arguments, cell.overrides))
            runs.append(run)
            decision = run.execute()
            verdict = "passed" if decision.passed else "not passed"
            print(f"{run.directory.name}: {verdict}: {decision.reason}")
            return objective(run.record.path)
        except UnderstudyError as error:
            codes.append(error.exit_code)
            print(f"understudy: cell {cell.label} failed. {error}", file=sys.stderr)
            return math.nan

    root = pipeline.run_root(cells.cells[0].config)
    composing.multirun(arguments.overrides, arguments.config_dir, root / "hydra" / cells.name, job)
    print(f"cells: {len(cells.cells)}, stages run: {sum(run.computed for run in runs)}")
    return max(codes)


def _search(arguments: argparse.Namespace) -> int:
    """Let a sweeper choose cell after cell by the scores so far; say which was the best."""
    from understudy import config
    from understudy.config import compose as composing
    from understudy.config.command_line import command
    from understudy.pipeline import run as pipeline
    from understudy.sweep import show
    from understudy.sweep.trials import Trials

    keys, fixed = composing.searched(arguments.overrides, arguments.config_dir)
    first = config.build(composing.compose(fixed, arguments.config_dir))
    if first.cluster.kind != "local":
        kind = first.cluster.kind
        raise BadInput(f"-m runs cell after cell on this machine; leave it out with cluster={kind}")
    trials = Trials(first, keys, _typed(arguments, [*arguments.overrides, "-m"]))
    codes = [0]

    def job(overrides: list[str], values: dict[str, Any]) -> float | None:
        label = trials.label(overrides)
        try:
            one = trials.config(values, label)
            trials.begin(label, pipeline.run_root(one) / "run" / pipeline.run_name(one))
            run = pipeline.Run(one, _typed(arguments, overrides))
            run.execute()
            score = show.objective(run.record.path)
        except UnderstudyError as error:
            codes.append(error.exit_code)
            trials.fail(label, error)
            print(f"understudy: trial {label} failed. {error}", file=sys.stderr)
            return None  # the plugin takes no NaN
        trials.end(label, score, run.record.config, overrides)
        return None if math.isnan(score) else score

    place = pipeline.run_root(first) / "hydra" / trials.record.name
    given = [*composing.SEARCH, *arguments.overrides]
    try:
        composing.multirun(given, arguments.config_dir, place, job)
    except ValueError:  # Optuna's, where no trial has a score
        if trials.best is not None:
            raise
    show.show(trials.record.path)
    if (best := trials.best) is None:
        return max(codes)
    print(f"best cell: {best.label}, score {best.score:.1f}")
    print(f"its config: {best.path}")
    print(f"to run it: {command(*_typed(arguments, best.overrides)[1:])}")
    return 0
