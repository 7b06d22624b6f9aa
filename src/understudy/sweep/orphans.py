"""What a name may not be given to: other science, while jobs of the old are queued under it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from understudy.config.command_line import command
from understudy.errors import BadInput
from understudy.pipeline.record import RunRecord
from understudy.pipeline.run import Run
from understudy.pipeline.stages import science
from understudy.pipeline.standing import JobState
from understudy.sweep import jobs
from understudy.sweep.record import SweepRecord

_SHOWN = 3  # differences in the sentence


def refuse(
    directory: Path, runs: Sequence[Run], needed: set[str], queue: Mapping[str, JobState]
) -> None:
    """Raise BadInput where the runs would leave queued jobs that no record knows any more.

    `directory` is that of the run or sweep, `needed` are the stages of its runs from now on. Jobs
    that another run waits for are that run's.
    """
    new = {run.directory / "run.json": run for run in runs}
    sweep = directory / "sweep.json"
    listed = SweepRecord.read(sweep).begun if sweep.is_file() else []
    old = {path: RunRecord.read(path) for path in {*new, *listed} if path.is_file()}
    elsewhere = waited_for(directory.parents[1], old)
    left, changes = set[str](), dict[str, None]()
    for path, record in old.items():
        for stage in record.stage_paths:
            found = None if stage in needed else jobs.read(record.root / stage)
            if found is None or found.job not in queue or stage in elsewhere:
                continue
            if found.submission == directory.name:
                left.add(found.job)
                of_cell = [f"{record.name} is no cell of it any more"]
                changes |= dict.fromkeys(_changes(record, new[path]) if path in new else of_cell)
    if left:
        name = directory.name
        what = "; ".join(list(changes)[:_SHOWN])
        raise BadInput(
            f"run.name={name} has {len(left)} queued or running jobs of other science ({what}): "
            f"cancel them with `{command('cancel', operand=name)}`, or give this run a name of "
            "its own with run.name=…"
        )


def waited_for(root: Path, own: Mapping[Path, object]) -> dict[str, str]:
    """Return the stages that runs without a decision need, other than these, and whose they are."""
    others = (path for path in root.glob("run/*/run.json") if path not in own)
    return {
        path: run.name
        for run in map(RunRecord.read, others)
        if run.decision is None
        for path in run.stage_paths
    }


def _changes(old: RunRecord, run: Run) -> Iterator[str]:
    """The leaves that differ and can change a result."""
    before = science(old.config)
    after = json.loads(json.dumps(science(run.config), default=str))
    for leaf, value in after.items():
        if leaf in before and before[leaf] != value:
            yield f"{leaf}: {before[leaf]} → {value}"
