"""Run the rounds: which stage is next, until the gate passes or the ladder ends."""

import dataclasses
import json
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from understudy import __version__, stages
from understudy.artifacts import StageDir, fingerprint, write_atomically
from understudy.config import Config
from understudy.flow import Flow
from understudy.launch.local import run_worker
from understudy.stages import Stage
from understudy.status import closing_table
from understudy.tracking import open_tracker


def run_root(config: Config) -> Path:
    """Below `paths.root`; a rehearsal has a tree of its own."""
    root = Path(config.paths.root).expanduser().absolute()
    return root / "rehearsal" if config.is_rehearsal else root


def run_name(config: Config) -> str:
    """The given name, or one made of the task, the model and what can change a result."""
    if config.run.name is not None:
        return config.run.name
    return f"{config.task.name}-{config.model.name}-{fingerprint(stages.science(config))[:8]}"


class Run:
    """One run and its record, `run/<name>/run.json`, written after every stage."""

    def __init__(self, config: Config, command: list[str]) -> None:
        self.config = config
        self.flow = Flow(config)
        self.root = run_root(config)
        self.directory = self.root / "run" / run_name(config)
        self.command = shlex.join(command)
        self.computed = 0
        self.record: dict[str, Any] = {
            "name": self.directory.name,
            "command": self.command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "understudy": __version__,
            "rehearsal": config.is_rehearsal,
            "config": dataclasses.asdict(config),
            "stages": {},
            "rounds": [],
            "decision": None,
        }

    def execute(self) -> dict[str, Any]:
        """Run what is not done yet, until a round passes; returns the decision."""
        self.directory.mkdir(parents=True, exist_ok=True)
        shared = {"coverage": self.flow.coverage, "split": self.flow.split} | self.flow.baseline
        self._stages(shared, self.record["stages"])
        name, config = self.directory.name, self.record["config"]
        with open_tracker(self.config.tracking, self.directory, name, config) as tracker:
            for number in range(len(self.config.sizes)):
                summary = self._round(number)
                if "finetune" in (plan := self.record["rounds"][number]["stages"]):
                    curve = StageDir(self.root / plan["finetune"]).out / "curve.jsonl"
                    tracker.log_curve(curve, f"round {number}")
                tracker.log(_metrics(summary), step=number)
                if summary["decision"] == "pass":
                    break
        passed = summary["decision"] == "pass"
        self.record["decision"] = {
            "passed": passed,
            "round": number if passed else None,
            "reason": summary["reason"],
        }
        self._write()
        return dict(self.record["decision"])

    def _round(self, number: int) -> dict[str, Any]:
        """Run one round; returns the gate's summary."""
        size = self.config.sizes[number]
        entry: dict[str, Any] = {"round": number, "data_size": size, "stages": {}, "decision": None}
        self.record["rounds"].append(entry)
        _say(f"round {number}: {size} synthetic rows")
        plan = self.flow.round(number)
        self._stages(plan, entry["stages"])
        gate = StageDir(self.root / plan["gate"].path).out / "summary.json"
        summary: dict[str, Any] = json.loads(gate.read_text(encoding="utf-8"))
        entry["decision"] = summary["decision"]
        closing_table(summary, self.record["rehearsal"])
        return summary

    def _stages(self, plan: dict[str, Stage], record: dict[str, str]) -> None:
        record.update({role: stage.path for role, stage in plan.items()})
        self._write()
        for role, stage in plan.items():
            self._stage(role, stage)

    def _stage(self, role: str, stage: Stage) -> None:
        directory = StageDir(self.root / stage.path)
        if directory.is_done:
            _say(f"  {role:<28} {stage.fingerprint}  finished before")
            return
        inputs = {
            "command": self.command,
            "inputs": {name: upstream.path for name, upstream in stage.inputs.items()},
        }
        directory.prepare(stages.frozen(stage, self.config), inputs)
        started = time.monotonic()
        run_worker(directory.path, self.config.cluster.threads)
        self.computed += 1
        _say(f"  {role:<28} {stage.fingerprint}  {time.monotonic() - started:.1f} s")

    def _write(self) -> None:
        write_atomically(self.directory / "run.json", json.dumps(self.record, indent=1))


def _metrics(summary: dict[str, Any]) -> dict[str, float]:
    return {
        f"{row['role']}/{row['judge']}/{score}": row[score]["mean"]
        for row in summary["table"]
        for score in ("similarity", "precision")
        if row[score] is not None and row[score]["mean"] is not None
    } | {"data_size": float(summary["data_size"])}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
