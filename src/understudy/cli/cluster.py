"""Runs on Slurm: submitting for `run`, and the verbs `cancel`, `explain` and `unlock`."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.pipeline.run import Run
    from understudy.sweep.submission import Submission, Submitted

_LONG, _WIDE = 40, 60  # rows and columns of a table that is worth reading


def submit(
    directory: Path, runs: "Sequence[Run]", command: str, write: Callable[[], None] = lambda: None
) -> bool:
    """Submit what is left of the runs, or print what would be; False when nothing is left.

    `directory` is that of the run or sweep, `write` writes a sweep's own record.
    """
    from understudy.sweep import prefetch
    from understudy.sweep.jobs import one_at_a_time
    from understudy.sweep.submission import Submission

    for notice in prefetch.check(run.config for run in runs):
        print(notice, file=sys.stderr)
    if runs[0].config.cluster.kind == "dry_run":
        _print_script(Submission(directory, runs, command))
        return True
    if runs[0].config.cluster.api == "here":
        return _go_on_here(directory, runs, command, write)
    with one_at_a_time(directory):
        job = Submission(directory, runs, command)
        if job.is_over:
            job.tidy()
            return False
        write()
        done = job.submit()
    job.settle()
    if job.replaced:
        told = f"{len(job.replaced)} stages were queued for other terms ({'; '.join(job.changes)})"
        print(f"{told}: their jobs are cancelled, and submitted anew")
    if done.full:
        print(f"{done.full}; the rest follows when jobs have ended")
    _print_table(job, done)
    return True


def _go_on_here(
    directory: Path, runs: "Sequence[Run]", command: str, write: Callable[[], None]
) -> bool:
    """Submit what jobs do and do the rest here; False when nothing is left."""
    from understudy.sweep import here
    from understudy.sweep.jobs import one_at_a_time
    from understudy.sweep.submission import Submission

    def submit(is_again: bool) -> Submission:
        with one_at_a_time(directory):
            job = Submission(directory, runs, command, is_again)
            write()
            done = job.submit() if not job.is_over else None
        job.settle()
        if done is not None and done.arrays:
            _print_table(job, done)
        return job

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    job = here.drive(submit, runs[0].config.cluster.processes, say)
    if job.is_over:
        job.tidy()
    else:
        print(f"nothing more can be done; {_watch(job)}")
    return not job.is_over


def check_name(directory: Path, runs: "Sequence[Run]") -> None:
    """Raise BadInput where jobs of other science are queued under the name of these local runs."""
    from understudy.errors import EnvironmentFailed
    from understudy.sweep import jobs, orphans, slurm
    from understudy.sweep.submission import ahead

    root = directory.parents[1]
    if not (root / "slurm" / directory.parent.name / directory.name).is_dir():
        return
    try:
        queue = slurm.queue(*jobs.users(root))
    except EnvironmentFailed:  # no machine of the cluster
        return
    needed = {path for run in runs for path in ahead(run).record.stage_paths}
    orphans.refuse(directory, runs, needed, queue)


def _print_script(job: "Submission") -> None:
    from understudy.sweep.site import described

    for line in job.script():
        print(line)
    print(f"# {described(job.cluster)}")
    if job.here:
        print(f"# {len(job.here)} stages are done on this machine; what needs them is queued then")
    stages = Counter(cell.ask.stage for cell in job.cells if cell.path not in job.queued)
    counts = ", ".join(f"{number} {stage}" for stage, number in stages.items()) or "nothing"
    jobs, now = len(job.backlog.units), sum(len(array.tasks) for array in job.arrays)
    print(f"# {len(job.arrays)} arrays of {now} jobs for {stages.total()} stages: {counts}")
    if now < jobs:
        print(f"# {jobs - now} more jobs follow, each when another has ended")
    print(f"# {len(job.queued)} cells queued before; nothing was submitted or written")


def _print_table(job: "Submission", done: "Submitted") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    table = Table("job", "stage", "cells", "waits for", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, array in done.arrays.items():
        after = array.after if len(array.after) < _WIDE else f"{array.after[: _WIDE - 2]} …"
        stages = sum(map(len, array.tasks.values()))
        table.add_row(number, array.ask.stage, str(stages), after or "–")
    if 0 < len(done.arrays) <= _LONG:
        console.print(table)
    units = [unit for array in done.arrays.values() for unit in array.tasks.values()]
    texts = [f"submitted: {sum(map(len, units))} stages in {len(units)} jobs"]
    texts += [f"{done.left} jobs follow as these end"] if done.left else []
    texts += [f"{done.reused} queued before"] if done.reused else []
    texts += [f"{done.lost} stopped by a failure (understudy status)"] if done.lost else []
    console.print(", ".join(texts))
    if done.planning is not None:
        console.print(f"job {done.planning} goes on when these have ended")
    elif not job.cluster.resubmit and not job.here:
        told = "when these jobs have ended, the same command goes on here"
        print(f"cluster.resubmit=false: {told}: {job.command}")
    print(_watch(job))


def _watch(job: "Submission") -> str:
    from understudy.config.command_line import command

    watch, stop = (command(verb, operand=job.name) for verb in ("status", "cancel"))
    return f"watch: {watch}; stop: {stop}"


def register(verbs: Any) -> None:
    """Add `cancel`, `explain` and `unlock` to the verbs."""
    for name, verb, target, help_ in (
        ("cancel", _cancel, "RUN", "cancel the Slurm jobs of a run or sweep"),
        ("explain", _explain, "CELL", "which config leaf or input differs from a finished stage"),
        ("unlock", _unlock, "STAGE", "remove the lock of a worker that is gone"),
    ):
        sub = verbs.add_parser(name, help=help_, description=help_)
        sub.set_defaults(verb=verb)
        sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
        if name == "cancel":
            sub.add_argument("run", metavar="RUN", help="a name, a path, or latest")
            sub.add_argument("--all", action="store_true", help="also what another run waits for")
        elif name == "explain":
            words = "a stage (finetune/0123…), a run's name, or KEY=VALUE… as for `understudy run`"
            sub.add_argument("cell", nargs="+", metavar=target, help=words)
            sub.add_argument("--config-dir", metavar="DIR", help="a directory of your own options")
        else:
            sub.add_argument("stage", metavar=target, help="a stage directory, or finetune/0123…")


def _cancel(arguments: argparse.Namespace) -> None:
    from understudy.config.compose import runs_root
    from understudy.pipeline.record import find_run
    from understudy.store.sharing import share
    from understudy.sweep import submission
    from understudy.sweep.jobs import one_at_a_time
    from understudy.sweep.record import SweepRecord, find_sweep

    root = runs_root(arguments.root)
    if (found := find_sweep(root, arguments.run)) is not None:
        runs = SweepRecord.read(found).begun
    else:
        runs = [found := find_run(root, arguments.run)]
    planning = found.parents[2].joinpath("slurm", *found.parent.parts[-2:], "planning.json")
    share(root)
    with one_at_a_time(found.parent):
        done = submission.cancel(runs, planning, arguments.all)
    print(f"cancelled: {len(done.jobs)} jobs of {found.parent.name}")
    if done.shared:
        names = ", ".join(sorted(set(done.shared.values())))
        print(f"left: {len(done.shared)} jobs that {names} waits for (--all cancels them too)")
    for user in sorted(set(done.others.values())):
        count = sum(one == user for one in done.others.values())
        print(f"left: {count} jobs of {user}, who alone may cancel them")


def _explain(arguments: argparse.Namespace) -> None:
    from understudy import config
    from understudy.config.compose import compose, runs_root
    from understudy.pipeline import run as pipeline
    from understudy.pipeline.record import RunRecord, find_run
    from understudy.sweep import explain
    from understudy.sweep.submission import ahead

    planned = {}
    if any("=" in word for word in arguments.cell):
        composed = config.build(compose(arguments.cell, arguments.config_dir))
        run = pipeline.Run(composed, [])
        root, planned = run.root, {stage.path: stage for stage in ahead(run).stages}
        wanted = list(planned)
    else:
        (cell,) = arguments.cell if len(arguments.cell) == 1 else [" ".join(arguments.cell)]
        directory = _stage(runs_root(arguments.root), cell)
        if directory is not None:
            root, wanted = directory.parents[1], [f"{directory.parent.name}/{directory.name}"]
        else:
            record = RunRecord.read(find_run(runs_root(arguments.root), cell))
            root = record.root
            wanted = [path for path in record.stage_paths if not record.stage(path).is_done]
    explainer = explain.Explainer(root, planned)
    for stage in wanted:
        found = explainer.explain(stage)
        against = f"nearest finished: {found.nearest}" if found.nearest else "none is finished"
        print(f"{stage}: {against}")
        for change in found.changes:
            print(f"  {change}")
    if not wanted:
        print("all stages are finished; nothing would run")


def _unlock(arguments: argparse.Namespace) -> None:
    from understudy.config.compose import runs_root
    from understudy.store import locks

    root = runs_root(arguments.root)
    if (directory := _stage(root, arguments.stage)) is None:
        raise BadInput(f"{arguments.stage} is no stage directory below {root}")
    if (holder := locks.break_open(directory / "LOCK")) is not None:
        raise BadInput(f"{holder} is at work on {directory}; stop it first")
    print(f"{directory} is not locked")


def _stage(root: Path, name: str) -> Path | None:
    """The stage directory of a path, of KIND/FINGERPRINT, or of a fingerprint's first digits."""
    if (Path(name) / "config.json").is_file():
        return Path(name).absolute()
    kind, _, digits = name.rpartition("/")
    pattern = f"{kind or '*'}/{digits}*/config.json"
    trees = root, root / "rehearsal"
    found = [path.parent for tree in trees for path in tree.glob(pattern)] if digits else []
    if len(found) > 1:
        raise BadInput(f"{name} may be {' or '.join(map(str, found))}")
    return found[0] if found else None
