"""Run the rounds: which stage is next, until the gate passes or the ladder ends."""

import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy import config as configuration
from understudy.config import Config
from understudy.config.command_line import command
from understudy.config.training import check_recipe, check_recipe_here
from understudy.data.prepare import prepare
from understudy.evaluation import power
from understudy.inference import vllm
from understudy.pipeline import stages
from understudy.pipeline.flow import flow_of
from understudy.pipeline.record import HoldoutRecord, RoundRecord, RunDecision, RunRecord
from understudy.pipeline.stages import Stage
from understudy.pipeline.start import Workers, idle_cores
from understudy.pipeline.status import closing_table
from understudy.pipeline.tracking import Tracker, open_tracker
from understudy.records import Coverage, read_rows
from understudy.services import providers
from understudy.store.artifacts import StageDir, fingerprint, lines
from understudy.store.sharing import share
from understudy.training import accelerate


def run_root(config: Config) -> Path:
    """Below `paths.root`; a rehearsal has a tree of its own."""
    root = Path(config.paths.root).expanduser().absolute()
    return root / "rehearsal" if config.is_rehearsal else root


def run_name(config: Config) -> str:
    """Return the given name, or one made of the task, the model and what can change a result."""
    if config.run.name is not None:
        return config.run.name
    return f"{config.task.name}-{config.model.name}-{fingerprint(stages.science(config))[:8]}"


@dataclass
class Task:
    """A stage that a run needs next; whoever works it off says who did."""

    directory: StageDir
    is_ours: bool = False  # else another process or cell finished it meanwhile

    def work(self, workers: Workers, prefix: str = "") -> None:
        """Run the stage's worker, which waits when somebody else does the stage already."""
        pid = workers.run(self.directory.path, prefix)
        meta = self.directory.read("meta.json")
        self.is_ours = (meta["host"], meta.get("pid")) == (platform.node(), pid)


class Run:
    """One run and its record, `run/<name>/run.json`, written after every stage.

    `prefix` marks the lines of a run that shares the terminal with others, `purse` names what
    `budget.usd` caps when that is more than this run.
    """

    def __init__(
        self, config: Config, command: list[str], prefix: str = "", purse: str | None = None
    ) -> None:
        share(Path(config.paths.root).expanduser().absolute())
        if config.cluster.kind == "local":
            accelerate.check(config)
            check_recipe_here(config.trainer, config.model, config.accelerate.kind)
            vllm.check(config)
        else:
            accelerate.check_allocation(config)
            has_gpu = config.cluster.gpu.gpus > 0
            check_recipe(config.trainer, config.model, config.accelerate.kind, has_gpu)
        config, self.notices = prepare(config, Path(config.paths.root).expanduser() / "hub.json")
        self.config = config
        self.notices += providers.notices(config) + idle_cores(config)
        self.flow = flow_of(config)
        self.root = run_root(config)
        self.directory = self.root / "run" / run_name(config)
        self.command = shlex.join(command)
        self.prefix = prefix
        self.purse = purse or f"run/{self.directory.name}"
        self.computed = 0
        self.tracker = Tracker()
        self.is_quiet = False
        self.record = RunRecord(
            path=self.directory / "run.json",
            name=self.directory.name,
            command=self.command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            understudy=__version__,
            rehearsal=config.is_rehearsal,
            config=configuration.as_dict(config),
            stages={},
            rounds=[],
        )

    def execute(self) -> RunDecision:
        """Run what is not done yet, until a round passes; return the decision."""
        workers = Workers()
        for task in self.steps():
            task.work(workers)
        assert self.record.decision is not None, "the last step writes the decision"
        return self.record.decision

    def steps(self) -> Iterator[Task]:
        """Each stage that is not done, which must be when the next is asked for; then decide."""
        for notice in self.notices:
            self.say(notice)
        self.flow.round(0)  # a model that is not there is refused before anything is bought
        yield from self._stages(self.flow.shared, self.record.stages)
        with self._tracked() as self.tracker:
            for number in range(len(self.flow.sizes)):
                yield from self._round(number)
                summary = self._decide(number)
                self.tracker.log_round(number, self.record.rounds[number].stages, summary)
                if summary["decision"] == "pass" and self.flow.is_ladder:
                    break
        passed = [step.round for step in self.record.rounds if step.decision == "pass"]
        if passed and self.flow.is_ladder:
            yield from self._holdout(passed[0])
        self.record.decision = RunDecision(
            passed=bool(passed),
            round=passed[0] if passed else None,
            reason=self.flow.reason(passed, summary["reason"]),
        )
        self.record.write()

    def _tracked(self) -> Tracker:
        """The tracker of this run; the runs of a sweep are a group."""
        names = ("command", "understudy", "rehearsal", "stages")
        values = {name: getattr(self.record, name) for name in names}
        kind, _, sweep = self.purse.partition("/")
        return open_tracker(
            self.config.tracking,
            self.directory,
            self.directory.name,
            {**self.record.config, **values},
            group=sweep if kind == "sweep" else None,
        )

    def _round(self, number: int) -> Iterator[Task]:
        entry = RoundRecord(number, self.flow.sizes[number], {})
        self.record.rounds.append(entry)
        self.say(f"round {number}: {self.flow.title(number)}")
        yield from self._stages(self.flow.round(number), entry.stages)

    def _holdout(self, number: int) -> Iterator[Task]:
        """Judge the round that passed on the holdout, where there is one; `decide` looks at it."""
        if not (plan := self.holdout(number)):
            return
        self.record.holdout = HoldoutRecord(number, {})
        self.say(f"holdout: round {number}")
        yield from self._stages(plan, self.record.holdout.stages)
        self.say(f"judged; to decide: {command('decide', operand=self.directory.name)}")

    def holdout(self, number: int) -> dict[str, Stage]:
        """Return the stages that judge a round on the holdout; empty where there is none."""
        split = StageDir(self.root / self.flow.split.path).out / "rows.jsonl"
        plan = self.flow.holdout(number)
        has_rows = plan and any(row.split == "holdout" for row in read_rows(split, Coverage))
        return plan if has_rows else {}

    def _decide(self, number: int) -> dict[str, Any]:
        """The gate's summary of a round that is done."""
        entry = self.record.rounds[number]
        summary: dict[str, Any] = self.record.stage(entry.stages["gate"]).read("out/summary.json")
        entry.decision = summary["decision"]
        if self.prefix or self.is_quiet:
            self.say(f"round {number}: {summary['decision']}. {summary['reason']}")
        else:
            closing_table(summary, self.record.rehearsal)
        return summary

    def _stages(self, plan: dict[str, Stage], record: dict[str, str]) -> Iterator[Task]:
        record.update({role: stage.path for role, stage in plan.items()})
        self.record.write()
        for role, stage in plan.items():
            with self._followed(role, stage):
                yield from self._stage(role, stage)
            if role == "split":
                for line in self._power(stage):
                    self.say(line)
            if role == "finetune":
                curve = self.root / stage.path / "out" / "curve.jsonl"
                name = f"round {self.record.rounds[-1].round}"
                self.tracker.log_curve(stage.path, curve, name)

    def _followed(self, role: str, stage: Stage) -> AbstractContextManager[None]:
        """While a fine-tuning goes on, its losses go to the tracker."""
        if role != "finetune" or not self.record.rounds:
            return nullcontext()
        name = f"round {self.record.rounds[-1].round}"
        return self.tracker.following(StageDir(self.root / stage.path), name)

    def _power(self, split: Stage) -> list[str]:
        """What a decision can show, before anything is bought for it."""
        name = "holdout" if self.flow.is_ladder else "test"
        rows = read_rows(StageDir(self.root / split.path).out / "rows.jsonl", Coverage)
        groups = [row.group_id for row in rows if row.split == name]
        return power.lines(self.config, groups)

    def _stage(self, role: str, stage: Stage) -> Iterator[Task]:
        directory = StageDir(self.root / stage.path)
        if directory.is_done:
            self.say(f"  {role:<28} {stage.fingerprint}  finished before")
            self._warn(directory)
            return
        self.prepare(stage)
        started = time.monotonic()
        task = Task(directory)
        yield task
        self.computed += task.is_ours
        took = f"{time.monotonic() - started:.1f} s" if task.is_ours else "finished meanwhile"
        self.say(f"  {role:<28} {stage.fingerprint}  {took}")
        self._warn(directory)

    def _warn(self, directory: StageDir) -> None:
        """Say what a stage left out, once in a run."""
        new = [line for line in directory.warnings() if line not in self.notices]
        self.notices += new
        for line in new:
            self.say(line)

    def prepare(self, stage: Stage, is_flushed: bool = True) -> StageDir:
        """Freeze what the worker of a stage reads: the values of `stages.frozen`."""
        inputs = {
            "command": self.command,
            "inputs": {name: upstream.path for name, upstream in stage.inputs.items()},
            "purse": self.purse,
        }
        directory = StageDir(self.root / stage.path)
        config = f'{{\n"hashed": {lines(stage.document)},\n"config": {self._config_text}\n}}'
        directory.freeze(config, lines(inputs), is_flushed)
        return directory

    @cached_property
    def _config_text(self) -> str:
        """The config as it stands in each config.json: the same in all of the run's."""
        return lines(self.record.config)

    def say(self, line: str) -> None:
        """A line for the person at the terminal."""
        if not self.is_quiet:
            print(f"{self.prefix}{line}", file=sys.stderr, flush=True)
