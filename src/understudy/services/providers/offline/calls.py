"""The offline provider: judge, teacher and plain service without a network, a key or an LLM.

It tells by the prompt's data blocks what it is asked to be, and knows right from wrong by the
playground's rules. Every reply follows from (request text, index) alone, for a judge also from its
name: a rerun gives the same replies, another index an independent one.
"""

import hashlib
import random

from understudy import playground
from understudy.config import Bias, Service
from understudy.config.base import base
from understudy.prompts import judge, synthesis
from understudy.records import dumps
from understudy.services.base import Finish, Reply, Request, Usage
from understudy.services.providers.offline import judge as offline_judge

_CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English

REFUSAL = "I cannot write pairs like this example: offline I only know the tasks of the playground."
UNKNOWN = "This stand-in works offline and can only answer prompts of the playground."


def connect(service: Service, endpoint: None) -> "Offline":
    """The stand-in of a service; it has no endpoint."""
    return Offline(service)


class Offline:
    """Plays one service; `skill` is its share of right answers, `bias` its leaning as a judge."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bias = service.bias or Bias(**base("service/_unbiased")["bias"])

    async def complete(self, request: Request) -> Reply:
        """Answer one request; there is nothing to wait for."""
        return self.answer(request)

    def answer(self, request: Request) -> Reply:
        """Answer as the judge, the teacher or the service, whichever the prompt asks for."""
        text, finish = self._reply(request)
        limit = self._service.max_output_tokens * _CHARACTERS_PER_TOKEN
        if len(text) > limit:
            text, finish = text[:limit], "length"
        heard = sum(estimate_tokens(message["content"]) for message in request.messages)
        return Reply(text, finish, Usage(input=heard, output=estimate_tokens(text)))

    async def close(self) -> None:
        """Nothing is open."""

    def _reply(self, request: Request) -> tuple[str, Finish]:
        """The whole text and how it finished."""
        service, index = self._service, request.index
        messages = dumps(request.messages)
        if verdict := judge.asked(request.messages):
            rng = _random("judge", messages, service.name, index)
            return offline_judge.judge(verdict, self._bias, rng), "stop"
        if lesson := synthesis.asked(request.messages):
            return teach(lesson, _random("teacher", messages, index))
        skill = 1.0 if service.skill is None else service.skill
        rng = _random("service", messages, index)
        return answer(request.messages[-1]["content"], skill, rng), "stop"


def teach(lesson: synthesis.Lesson, rng: random.Random) -> tuple[str, Finish]:
    """The reply to a synthesis prompt and how it finished; the seed itself is never in it."""
    task = playground.identify(lesson.instruction)
    if task is None:
        return REFUSAL, "refusal"
    seed = rng.getrandbits(48)
    drawn = playground.generate(task, seed=seed, start=0, count=lesson.wanted + 1)
    new = [pair for pair in drawn if pair.instruction != lesson.instruction][: lesson.wanted]
    contents = [{"instruction": pair.instruction, "response": pair.response} for pair in new]
    return dumps({"contents": contents}), "stop"


def answer(prompt: str, skill: float, rng: random.Random) -> str:
    """A playground prompt's right answer with probability `skill`, else a flawed one.

    Any other prompt gets one fixed sentence that repeats nothing of it.
    """
    right = playground.reference(prompt)
    if right is None:
        return UNKNOWN
    return right if rng.random() < skill else playground.flawed(prompt, rng)


def estimate_tokens(text: str) -> int:
    """An estimate of the tokens in a text: a quarter of its characters, rounded up."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _random(*key: str | int) -> random.Random:
    """A generator that depends on the key alone, in any process and on any machine."""
    return random.Random(hashlib.sha256(dumps(key).encode("utf-8", "surrogatepass")).digest())
