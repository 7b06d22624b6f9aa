"""The offline teacher: new pairs of the seed's playground task, straight from its generator."""

import random

from understudy import playground
from understudy.prompts.synthesis import Asked
from understudy.records import dumps
from understudy.services.base import Finish

REFUSAL = "I cannot write pairs like this example: offline I only know the tasks of the playground."


def teach(lesson: Asked, rng: random.Random) -> tuple[str, Finish]:
    """The reply to a synthesis prompt and how it finished; the seed itself is never in it."""
    task = playground.identify(lesson.instruction)
    if task is None:
        return REFUSAL, "refusal"
    seed = rng.getrandbits(48)
    drawn = playground.generate(task, seed=seed, start=0, count=lesson.wanted + 1)
    new = [pair for pair in drawn if pair.instruction != lesson.instruction][: lesson.wanted]
    contents = [{"instruction": pair.instruction, "response": pair.response} for pair in new]
    return dumps({"contents": contents}), "stop"
