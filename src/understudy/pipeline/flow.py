"""Which stages a run consists of: a graph made from the config, and from files by their digest."""

from collections.abc import Collection, Sequence
from functools import cached_property

from understudy.config import Config
from understudy.config.training import PREFERENCES
from understudy.data import answers
from understudy.data.subset import block_ends
from understudy.errors import BadInput
from understudy.pipeline.stages import Stage, StageMaker

TRAINING = "training."  # begins the roles of what a round's training needs and nobody is shown
_SFT = f"{TRAINING}sft"
_FOLDS = 3  # of the probe; each model sees two thirds of the human rows


class Flow:
    """The stages of one config; equal stages of different rounds are the same directory."""

    is_ladder = True  # a round that passes is the last

    def __init__(self, config: Config) -> None:
        self.config = config
        self._make = StageMaker(config)
        self._blocks: dict[int, list[Stage]] = {}

    @property
    def sizes(self) -> Sequence[int | None]:
        """The data size of every round; null where nothing is trained."""
        return self.config.sizes

    def title(self, number: int) -> str:
        """Return what a round is about."""
        return f"{self.sizes[number]} synthetic rows"

    def reason(self, passed: list[int], last: str) -> str:
        """Why the run ends as it does, of the rounds that passed and the last gate's reason."""
        return last

    @property
    def shared(self) -> dict[str, Stage]:
        """The stages before the rounds, in the order to run them, by role."""
        return {"coverage": self.coverage, "split": self.split} | self.baseline

    @cached_property
    def coverage(self) -> Stage:
        """The real pairs."""
        return self._make("coverage")

    @cached_property
    def split(self) -> Stage:
        """The real pairs, each with its split."""
        return self._make("split", inputs={"coverage": self.coverage})

    @cached_property
    def baseline(self) -> dict[str, Stage]:
        """The service's answers and their evaluations, by role; empty with baseline=none."""
        if self.config.baseline.kind == "none":
            return {}
        answers = self._make("baseline", {"split": "test"}, inputs={"split": self.split})
        return {"baseline": answers} | {
            f"baseline.{judge}": self.evaluation(answers, judge)
            for judge in self.config.judge_names
        }

    def holdout(self, number: int) -> dict[str, Stage]:
        """One round's model and the service on the holdout, judged; empty without a service."""
        if self.config.baseline.kind == "none":
            return {}
        tested = self.round(number)["inference"]
        local = self._make("inference", tested.params | {"split": "holdout"}, tested.inputs)
        service = self._make("baseline", {"split": "holdout"}, {"split": self.split})
        judged = {
            f"{role}.{judge}": self.evaluation(answers, judge, "holdout")
            for role, answers in (("evaluation", local), ("baseline", service))
            for judge in self.config.gate_judges
        }
        return {"inference": local, "baseline": service} | judged

    def evaluation(self, answers: Stage, judge: str, split: str = "test") -> Stage:
        """One judge on one answers stage."""
        return self._judged(judge, split, {"answers": answers, "split": self.split})

    def _judged(self, judge: str, split: str, inputs: dict[str, Stage]) -> Stage:
        kind = "evaluation.grader" if judge in self.config.graders else "evaluation"
        return self._make(kind, {"judge": judge, "split": split}, inputs)

    @cached_property
    def probe(self) -> dict[str, Stage]:
        """Out-of-fold answers to the train rows, judged, by role; empty unless seeds are aimed.

        Each fold is answered by a model that was trained on the other folds' human rows.
        """
        config, stages = self.config, dict[str, Stage]()
        if config.synthesis.seeds == "uniform" or config.synthesis.kind in ("file", "hub"):
            return stages
        for fold in range(_FOLDS):
            params = {"fold": fold, "folds": _FOLDS}
            split = self._make("fold", params, {"split": self.split})
            inputs = {"split": split}
            found = {"fold": split}
            if config.trainer.kind != "none":
                found["subset"] = self._make("subset", {"data_size": 0}, {"split": split})
                trained = {"subset": found["subset"], "split": split}
                found["finetune"] = self._make("finetune", {}, trained)
                inputs["finetune"] = found["finetune"]
            answers = {"split": "test", "generator": config.model.name}
            found["inference"] = self._make("inference", answers, inputs)
            for judge in config.gate_judges:
                judged = {"answers": found["inference"], "split": split}
                found[f"evaluation.{judge}"] = self._judged(judge, "test", judged)
            stages |= {f"probe.{fold}.{role}": stage for role, stage in found.items()}
        return stages

    def blocks(self, rows: int) -> list[Stage]:
        """The synthetic blocks that hold the first `rows` rows; a ready-made set is one stage."""
        if rows and self.config.synthesis.kind in ("file", "hub"):
            return [self._make("cleaning", inputs={"split": self.split})]
        if rows in self._blocks:
            return self._blocks[rows]
        blocks: list[Stage] = []
        verdicts = {r: stage for r, stage in self.probe.items() if stage.kind == "evaluation"}
        start = 0
        for number, end in enumerate(block_ends(rows)):
            inputs = {"split": self.split} | verdicts
            inputs |= {f"block.{b}": block for b, block in enumerate(blocks)}
            params = {"block": number, "rows": end - start}
            blocks.append(self._make("synthesis", params, inputs))
            start = end
        self._blocks[rows] = blocks
        return blocks

    def round(self, number: int) -> dict[str, Stage]:
        """Return the stages of one round in the order to run them, by role."""
        rows = self.config.sizes[number]
        blocks = self.blocks(rows)
        stages = dict(self.probe) if blocks else {}
        stages |= {f"{block.name}.{b}": block for b, block in enumerate(blocks)}
        answered = self._answers(number, stages)
        stages |= {
            f"evaluation.{judge}": self.evaluation(answered, judge)
            for judge in self.config.judge_names
        }
        stages["gate"] = self._gate(number, rows, stages | self.baseline, self.config.gate_judges)
        return stages

    def _gate(
        self, number: int, rows: int | None, stages: dict[str, Stage], judges: Collection[str]
    ) -> Stage:
        gated = {
            role: stage
            for role, stage in stages.items()
            if role.partition(".")[2] in judges and role.startswith(("evaluation.", "baseline."))
        }
        params = {"round": number, "data_size": rows}
        return self._make("gate", params, {"split": self.split} | gated)

    def _answers(self, number: int, stages: dict[str, Stage]) -> Stage:
        """The local model's answers of a round; adds what they need to `stages`."""
        config = self.config
        inputs = {"split": self.split}
        if config.trainer.kind != "none":
            stages["finetune"] = self._finetune(number, stages)
            inputs["finetune"] = stages["finetune"]
        params = {"split": "test", "generator": config.model.name}
        stages["inference"] = self._make("inference", params, inputs)
        return stages["inference"]

    def _finetune(self, number: int, stages: dict[str, Stage]) -> Stage:
        rows = self.config.sizes[number]
        blocks = {f"block.{b}": block for b, block in enumerate(self.blocks(rows))}
        subset = self._make("subset", {"data_size": rows}, {"split": self.split} | blocks)
        stages["subset"] = subset
        inputs = {"subset": subset, "split": self.split}
        is_last = self.config.trainer.kind not in PREFERENCES
        if self.config.trainer.start == "previous" and number > 0:
            inputs["previous"] = self.round(number - 1)["finetune" if is_last else _SFT]
        trained = self._make("finetune", {}, inputs)
        return trained if is_last else self._preferring(subset, trained, stages)

    def _preferring(self, subset: Stage, sft: Stage, stages: dict[str, Stage]) -> Stage:
        """The training on what the SFT model answers to train prompts; validation stops it."""
        config, judge = self.config, self.config.preference.judge
        stages[_SFT] = sft
        inputs = {"subset": subset, "split": self.split}
        for split, rows in (("train", subset), ("validation", self.split)):
            params = {"split": split, "generator": config.model.name}
            asked = {"split": self.split, "prompts": rows, "finetune": sft}
            inputs[f"answers.{split}"] = self._make("inference.sampled", params, asked)
            if judge is not None:
                kind = "grader" if judge in config.graders else "labelling"
                judged = {"answers": inputs[f"answers.{split}"], "split": rows}
                params = {"judge": judge, "split": split}
                inputs[f"verdicts.{split}"] = self._make(f"evaluation.{kind}", params, judged)
        made = {role: stage for role, stage in inputs.items() if "." in role}
        stages |= {f"{TRAINING}{role}": stage for role, stage in made.items()}
        stages["preference"] = self._make("preference", {}, inputs)
        trained = {"preference": stages["preference"], "subset": subset, "split": self.split}
        return self._make("finetune.preferring", {}, trained | {"previous": sft})


class ReadyMade(Flow):
    """Ready-made answers: a round per generator, nothing is trained, sampled or asked but judges.

    Verdicts that the file holds are evaluations too; an evaluator that has the name of a judge
    of this run is shown as `NAME (file)`. The gate reads them all, or those in `gate.judges`:
    it needs means only, and LlamaDuo's own rule was about such averages.
    """

    is_ladder = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        for number in range(len(self.sizes)):
            self.round(number)  # an unknown gate judge is told before anything runs

    @cached_property
    def ready(self) -> answers.ReadyAnswers:
        """What the file or hub data set holds."""
        return answers.load(self.config.inference, self.config.task.name)

    @property
    def generators(self) -> list[str]:
        """Who answered, in the file's order."""
        return list(self.ready.answers)

    @property
    def sizes(self) -> Sequence[int | None]:
        """What the answering models were trained on is not known here."""
        return [None] * len(self.generators)

    def title(self, number: int) -> str:
        """Whose answers a round is about."""
        return f"ready-made answers of {self.generators[number]}"

    def reason(self, passed: list[int], last: str) -> str:
        """Which generators reach the thresholds."""
        names = ", ".join(self.generators[number] for number in passed) or "none"
        total = len(self.generators)
        return f"{len(passed)} of {total} generators reach the thresholds of the gate: {names}."

    @property
    def shared(self) -> dict[str, Stage]:
        """The prompts with their references."""
        return {"split": self.split}

    @cached_property
    def split(self) -> Stage:
        """The prompts, all in the test split."""
        return self._make("split.imported")

    def round(self, number: int) -> dict[str, Stage]:
        """One generator's answers, the verdicts that came with them, and those of our judges."""
        config, generator = self.config, self.generators[number]
        params = {"generator": generator, "split": "test"}
        answered = self._make("inference.imported", params, {"split": self.split})
        stages = {"inference": answered}
        inputs = {"answers": answered, "split": self.split}
        for of_generator, evaluator in self.ready.scores:
            if of_generator == generator:
                name = f"{evaluator} (file)" if evaluator in config.judge_names else evaluator
                imported = {"evaluator": evaluator, "split": "test"}
                stages[f"evaluation.{name}"] = self._make("evaluation.imported", imported, inputs)
        for judge in config.judge_names:
            stages[f"evaluation.{judge}"] = self.evaluation(answered, judge)
        judges = [role.partition(".")[2] for role in stages if role.startswith("evaluation.")]
        wanted = judges if config.gate.judges is None else config.gate.judges
        if unknown := sorted(set(wanted) - set(judges)):
            raise BadInput(f"gate.judges={unknown} are not among {sorted(judges)} of {generator}")
        if not judges:
            raise BadInput(f"nobody has judged {generator}, and judge=none asks nobody")
        stages["gate"] = self._gate(number, None, stages, wanted)
        return stages


# Kind of `inference` → the flow of a run.
FLOWS: dict[str, type[Flow]] = {"local": Flow, "file": ReadyMade, "hub": ReadyMade}


def flow_of(config: Config) -> Flow:
    """Return the flow of a config."""
    return FLOWS[config.inference.kind](config)
