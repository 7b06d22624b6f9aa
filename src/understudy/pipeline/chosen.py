"""Which model of a run is deployed, and what the run has decided about it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from understudy import config
from understudy.config import Config
from understudy.config.command_line import command
from understudy.errors import BadInput
from understudy.pipeline.record import DecisionRecord, RoundRecord, RunRecord
from understudy.store.artifacts import StageDir


@dataclass(frozen=True)
class Chosen:
    """One round of a run, with what it was made of."""

    run: RunRecord
    step: RoundRecord
    config: Config  # as it was trained
    finetuned: Path | None  # None = the base model itself

    @property
    def split(self) -> Path:
        """The rows with their splits."""
        return self.stage("split").out / "rows.jsonl"

    def stage(self, role: str) -> StageDir:
        """Return the round's stage in this role, or the run's."""
        return self.run.stage((self.run.stages | self.step.stages)[role])

    def summary(self, role: str) -> dict[str, Any] | None:
        """Return what a finished stage of this round has summed up; None where there is none."""
        if role not in self.step.stages or not self.stage(role).is_done:
            return None
        found: dict[str, Any] = self.stage(role).read("out/summary.json")
        return found

    @property
    def decision(self) -> tuple[str, str]:
        """The word of `understudy decide`, or UNDECIDED, and why; only MIGRATE is a yes."""
        run, number, said = self.run, self.step.round, self._said
        decide = command("decide", operand=run.name)
        if run.decision is None:
            return "UNDECIDED", f"the run is not finished; go on with {run.command}"
        if not run.decision.passed:
            return "NOT YET", f"no round passed on the test split. {run.decision.reason}"
        if number != run.decision.round:
            return "UNDECIDED", f"the run chose round {run.decision.round}, not {number}"
        if said is not None:
            return said.decision, said.reason
        if run.decided is not None:
            return "UNDECIDED", f"it was decided on another model of this name: {decide}"
        return "UNDECIDED", f"nobody looked at the holdout: {decide}"

    @property
    def warnings(self) -> list[str]:
        """What `understudy decide` warned of."""
        return self._said.warnings if self._said is not None else []

    @cached_property
    def _said(self) -> DecisionRecord | None:
        """What was decided about what the run has judged on the holdout since it was last begun."""
        said = self.run.decided
        return said if said is not None and said.holdout == self.run.holdout else None


def choose(run_json: Path, number: int | None = None) -> Chosen:
    """Return the round `number`, or that which passed, or else the last whose model is done.

    Raises BadInput where there is no such model.
    """
    run = RunRecord.read(run_json)
    if run.is_ready_made:
        raise BadInput(f"{run.name} judged ready-made answers; it has no model to export")
    done = {
        step.round: step
        for step in run.rounds
        if (path := step.stages.get("finetune", step.stages.get("inference")))
        and run.stage(path).is_done
    }
    wanted = number
    if wanted is None and run.decision is not None:
        wanted = run.decision.round
    if wanted is None and done:
        wanted = max(done)
    if wanted not in done:
        if not done:
            raise BadInput(f"{run.name} has no model yet; go on with {run.command}")
        rounds = ", ".join(map(str, done))
        raise BadInput(f"{run.name} has no model of round {wanted}; it has one of {rounds}")
    step = done[wanted]
    stage = run.stage(step.stages.get("finetune", step.stages["inference"]))
    finetuned = stage.out / "model" if "finetune" in step.stages else None
    return Chosen(run, step, config.build(stage.read("config.json")["config"]), finetuned)
