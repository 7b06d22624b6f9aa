"""Which stages a run consists of: a graph made from the config alone, touching no disk."""

from functools import cached_property

from understudy.config import Config
from understudy.stages import Stage, make

_FIRST_BLOCK = 125


def block_ends(rows: int) -> list[int]:
    """The ends of the blocks that hold the first `rows` synthetic rows: 125·2^k."""
    ends: list[int] = []
    while rows > (ends[-1] if ends else 0):
        ends.append(ends[-1] * 2 if ends else _FIRST_BLOCK)
    return ends


class Flow:
    """The stages of one config; equal stages of different rounds are the same directory."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def coverage(self) -> Stage:
        """The real pairs."""
        return make("coverage", self.config)

    @cached_property
    def split(self) -> Stage:
        """The real pairs, each with its split."""
        return make("split", self.config, inputs={"coverage": self.coverage})

    @cached_property
    def baseline(self) -> dict[str, Stage]:
        """The service's answers and their evaluations, by role; empty with baseline=none."""
        if self.config.baseline.kind == "none":
            return {}
        answers = make("baseline", self.config, {"split": "test"}, inputs={"split": self.split})
        return {"baseline": answers} | {
            f"baseline.{judge}": self.evaluation(answers, judge) for judge in self.config.judges
        }

    def evaluation(self, answers: Stage, judge: str) -> Stage:
        """One judge on one answers stage."""
        params = {"judge": judge, "split": "test"}
        return make("evaluation", self.config, params, {"answers": answers, "split": self.split})

    def blocks(self, rows: int) -> list[Stage]:
        """The synthetic blocks that hold the first `rows` rows."""
        blocks: list[Stage] = []
        start = 0
        for number, end in enumerate(block_ends(rows)):
            inputs = {"split": self.split} | {f"block.{b}": block for b, block in enumerate(blocks)}
            params = {"block": number, "rows": end - start}
            blocks.append(make("synthesis", self.config, params, inputs))
            start = end
        return blocks

    def round(self, number: int) -> dict[str, Stage]:
        """The stages of one round in the order to run them, by role."""
        rows = self.config.sizes[number]
        blocks = self.blocks(rows)
        stages = {f"synthesis.{b}": block for b, block in enumerate(blocks)}
        answers = self._answers(number, stages)
        stages |= {
            f"evaluation.{judge}": self.evaluation(answers, judge) for judge in self.config.judges
        }
        gated = {
            role: stage
            for role, stage in (stages | self.baseline).items()
            if role.partition(".")[2] in self.config.gate_judges
            and role.startswith(("evaluation.", "baseline."))
        }
        params = {"round": number, "data_size": rows}
        stages["gate"] = make("gate", self.config, params, {"split": self.split} | gated)
        return stages

    def _answers(self, number: int, stages: dict[str, Stage]) -> Stage:
        """The local model's answers of a round; adds what they need to `stages`."""
        config = self.config
        inputs = {"split": self.split}
        if config.trainer.kind != "none":
            stages["finetune"] = self._finetune(number, stages)
            inputs["finetune"] = stages["finetune"]
        params = {"split": "test", "generator": config.model.name}
        stages["inference"] = make("inference", config, params, inputs)
        return stages["inference"]

    def _finetune(self, number: int, stages: dict[str, Stage]) -> Stage:
        rows = self.config.sizes[number]
        blocks = {f"block.{b}": block for b, block in enumerate(self.blocks(rows))}
        subset = make("subset", self.config, {"data_size": rows}, {"split": self.split} | blocks)
        stages["subset"] = subset
        inputs = {"subset": subset, "split": self.split}
        if self.config.trainer.start == "previous" and number > 0:
            inputs["previous"] = self.round(number - 1)["finetune"]
        return make("finetune", self.config, {}, inputs)
