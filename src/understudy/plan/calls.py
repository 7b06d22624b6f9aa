"""What the stages that ask a service will send, and what that costs.

Sizes are those of the rendered messages, in bytes of UTF-8; what an answer that does not exist yet
adds is estimated by its reference. `evaluation`, `baseline` and `synthesis` count the calls that a
stage still has to make; None = cannot be known yet. Their names stand in the Spec of the stage.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.config import Config, Service
from understudy.data.subset import rows_of
from understudy.evaluation.judge import conversation, index_of
from understudy.pipeline.stages import Stage
from understudy.plan.inputs import Inputs, begun
from understudy.plan.learned import Learned
from understudy.plan.ranges import NOTHING, Range, exactly
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.records import Answer, Coverage, Message, dumps, written
from understudy.services import money
from understudy.services.base import Request, Usage
from understudy.store.artifacts import StageDir

BYTES_PER_TOKEN = 4.0  # English with today's tokenizers, the makers' own rule of thumb
JUDGE_TOKENS = Range(60, 130, 400)  # two reasons of one or two sentences, and the JSON around
YIELD = Range(0.25, 0.9, 1.0)  # share of the pairs of a reply that are accepted
_LEAST_YIELD = 0.01  # where no floor is set
_JSON = 1.15  # names, quotes and escapes around the text of a pair
# Hidden reasoning before a short answer, in tokens: guesses, until the journal knows.
REASONING = {
    "none": NOTHING,
    "minimal": Range(0, 50, 300),
    "low": Range(0, 150, 1000),
    "medium": Range(50, 500, 3000),
}
MUCH_REASONING = Range(200, 1500, 8000)
BATCH_S = Range(300, 3600, 86400)  # the makers promise a day and often need an hour


@dataclass(frozen=True)
class StageCalls:
    """The calls of one stage."""

    service: Service
    asked: Range  # number of calls; equal ones are sent once
    repairs: int  # calls that may follow, at most
    size: float  # mean bytes of a request
    reply: Range  # output tokens of a call as long as nothing is learnt


class Sizes(NamedTuple):
    """How many requests there are, and their mean bytes."""

    number: int
    mean: float


class Known(NamedTuple):
    """What may be looked at to know better."""

    inputs: Inputs
    has_reply: Callable[[Service, Request], bool]  # whether the journal answers it
    seen: set[tuple[str, str, int]]  # requests of the stages before
    judged: set[tuple[str, str]]  # judge and split of the evaluations before
    yields: dict[str, Range]  # accepted share of a teacher's pairs, by service
    sizes: dict[tuple[str | int, ...], Sizes]  # of evaluations without answers, rendered before


def evaluation(root: Path, stage: Stage, config: Config, known: Known) -> StageCalls | None:
    """Count the verdicts; an answer that equals another generator's is judged once.

    Before there are answers, it is not known which will.
    """
    service = config.judges[stage.params["judge"]]
    prompts = _prompts(root, stage, config, known)
    if prompts is None:
        return None
    done = {
        (row["prompt_id"], row["k"], row["m"]) for row in begun(root / stage.path, "out/rows.jsonl")
    }
    answers = known.inputs.rows(root, stage.inputs["answers"], config, Answer)
    if answers is None:
        sizes = _unanswered(stage, config, prompts, done, known)
        pair = service.name, stage.inputs["split"].path
        may_be_known = pair in known.judged and service.provider != "offline"
    else:
        sizes, may_be_known = _of_answers(prompts, answers, config, service, done, known), False
    known.judged.add((service.name, stage.inputs["split"].path))
    asked = Range(0 if may_be_known else sizes.number, sizes.number, sizes.number)
    return StageCalls(service, asked, sizes.number, sizes.mean, JUDGE_TOKENS)


_Done = set[tuple[str, int, int]]  # prompt, k, m


def _unanswered(
    stage: Stage, config: Config, prompts: Sequence[Coverage], done: _Done, known: Known
) -> Sizes:
    """The requests of answers that are not there yet, each as long as the reference.

    All judges of all models are asked alike then, so a sweep renders this once.
    """
    settings = config.evaluation
    split = stage.inputs["split"].path, stage.params["split"]
    key = (*split, settings.prompt, settings.order, config.inference.k, settings.m)
    if not done and key in known.sizes:
        return known.sizes[key]
    sizes = list[int]()
    for row in prompts:
        size = _size(_rendered(config, row, row.response))
        each = itertools.product(range(config.inference.k), range(settings.m))
        sizes += [size for k, m in each if (row.id, k, m) not in done]
    found = Sizes(len(sizes), _mean(sizes))
    if not done:
        known.sizes[key] = found
    return found


def _of_answers(
    prompts: Sequence[Coverage],
    answers: Sequence[Answer],
    config: Config,
    service: Service,
    done: _Done,
    known: Known,
) -> Sizes:
    """The requests of answers that are there, without those that are judged already."""
    by_id = {row.id: row for row in prompts}
    schema, sizes = judge_prompt.schema(config.evaluation.prompt), list[int]()
    for answer in answers:
        row = by_id.get(answer.prompt_id)
        if row is None or answer.finish == "error":
            continue
        messages = _rendered(config, row, answer.text)
        size = _size(messages)
        for m in range(config.evaluation.m):
            request = Request(messages, index_of(answer.k, m), schema)
            is_done = (row.id, answer.k, m) in done
            if not is_done and _is_new(service, request, known):
                sizes.append(size)
    return Sizes(len(sizes), _mean(sizes))


def _rendered(config: Config, row: Coverage, answer: str) -> tuple[Message, ...]:
    settings, asked = config.evaluation, conversation(row.prompt)
    return judge_prompt.render(settings.prompt, settings.order, asked, row.response, answer)


def _is_new(service: Service, request: Request, known: Known) -> bool:
    """Whether this is not answered yet, and no stage before asks it."""
    if service.provider == "offline":  # which is free, and keeps no journal
        return True
    key = service.name, request.messages[-1]["content"], request.index
    if key in known.seen or known.has_reply(service, request):
        return False
    known.seen.add(key)
    return True


def baseline(root: Path, stage: Stage, config: Config, known: Known) -> StageCalls | None:
    """Count the answers of the service."""
    service = config.baseline.service
    assert service is not None, "a baseline stage has a service"
    if (prompts := _prompts(root, stage, config, known)) is None:
        return None
    done = {(row["prompt_id"], row["k"]) for row in begun(root / stage.path, "out/rows.jsonl")}
    requests = [
        Request(tuple(row.prompt), index=k, tools=tuple(row.tools or ()))
        for row in prompts
        for k in range(config.inference.k)
        if (row.id, k) not in done
    ]
    sizes = [
        _size(r.messages) + sum(len(dumps(tool).encode()) for tool in r.tools)
        for r in requests
        if not known.has_reply(service, r)
    ]
    expected = _mean([len(row.response.encode()) for row in prompts]) / BYTES_PER_TOKEN
    reply = Range(expected / 4, expected, max(expected * 8, 300))  # services like to say more
    return StageCalls(service, exactly(len(sizes)), 0, _mean(sizes), reply)


def synthesis(root: Path, stage: Stage, config: Config, known: Known) -> StageCalls | None:
    """Count the prompts to the teacher; a finished block tells what share of pairs is accepted."""
    settings, service = config.synthesis, config.synthesis.service
    assert service is not None, "synthesis.kind=service has a service"
    if (directory := StageDir(root / stage.path)).is_done:
        summary: dict[str, Any] = directory.read("out/summary.json")
        share = summary["rows"] / max(1, summary["calls"] * settings.pairs_per_call)
        accepted = Range(share / 2, share, 1.0) if share <= 1 else exactly(1)
        known.yields[service.name] = accepted
    split = known.inputs.rows(root, stage.inputs["split"], config, Coverage)
    if split is None:
        return None
    sizes, pairs = [], []
    for seed in (row for row in split if row.split == "train"):
        pair = seed.instruction, seed.response
        messages = synthesis_prompt.render(
            *pair, config.task.topic, settings.pairs_per_call, config.task.name
        )
        sizes.append(_size(messages))
        pairs.append(sum(len(text.encode()) for text in pair))
    had = len(begun(root / stage.path, "scratch/replies.jsonl"))
    made = known.yields.get(service.name, YIELD) * settings.pairs_per_call
    rows = int(stage.params["rows"])
    most = math.ceil(rows / (settings.pairs_per_call * max(settings.min_yield, _LEAST_YIELD)))
    calls = (math.ceil(rows / per_call) for per_call in (made.high, made.expected, made.low))
    asked = Range(*(max(0, min(most, number) - had) for number in calls))
    tokens = settings.pairs_per_call * _mean(pairs) * _JSON / BYTES_PER_TOKEN
    return StageCalls(service, asked, 0, _mean(sizes), Range.around(tokens, 2))


def _prompts(root: Path, stage: Stage, config: Config, known: Known) -> list[Coverage] | None:
    """The rows of the split that a stage works on; synthetic ones to come as long as human ones."""
    asked = stage.inputs["split"]
    rows = known.inputs.rows(root, asked, config, Coverage)
    if rows is None and asked.name == "subset":
        rows = known.inputs.rows(root, asked.inputs["split"], config, Coverage)
        human = [row for row in rows or () if row.split == "train"]
        number = rows_of(len(human), int(asked.params["data_size"]), config.loop)
        return list(itertools.islice(itertools.cycle(human), number)) if human else None
    if rows is None:
        return None
    return [row for row in rows if row.split == stage.params["split"]]


def _size(messages: Sequence[Message]) -> int:
    return sum(len(written(message).encode()) for message in messages)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


class StageCost(NamedTuple):
    """The calls of one stage, in what they take; dollars are None where nobody states a price."""

    calls: Range
    repairs: int  # at most as many more
    input: Range  # tokens
    output: Range
    online_usd: Range | None
    batch_usd: Range | None  # None also where there is no batch API
    seconds: Range
    basis: str  # of what lengths and speed are estimated

    def or_nothing(self) -> "StageCost":
        """Return the same of a stage that may not be needed."""
        ranges = {key: part for key, part in self._asdict().items() if isinstance(part, Range)}
        changed: dict[str, Any] = {key: part.or_nothing() for key, part in ranges.items()}
        return self._replace(**changed)


def cost_of(calls: StageCalls, role: str, learned: Learned) -> StageCost:
    """Return the cost of a stage's calls; the upper ends hold a repair of each."""
    service = calls.service
    effort = service.reasoning
    if isinstance(effort, int):
        reasoning = Range(0, effort / 2, effort)
    else:
        reasoning = NOTHING if effort is None else REASONING.get(effort, MUCH_REASONING)
    per_byte = learned.tokens_per_byte(service, role)
    reply = learned.reply_tokens(service, role, calls.reply + reasoning)
    reply = reply.at_most(service.max_output_tokens)  # hidden reasoning included
    again = Range(0, 0, calls.repairs)  # a repair sends the request again, and the bad reply
    sent = calls.asked + again
    tokens_in = sent * (per_byte * calls.size) + again * reply
    tokens_out = sent * reply
    latency = learned.latency_s(service, role, reply)
    return StageCost(
        calls=calls.asked,
        repairs=calls.repairs,
        input=tokens_in,
        output=tokens_out,
        online_usd=_usd(service, tokens_in, tokens_out, "online"),
        batch_usd=_usd(service, tokens_in, tokens_out, "batch"),
        seconds=_seconds(service, sent, tokens_in + tokens_out, latency),
        basis=learned.basis(service, role),
    )


def _usd(service: Service, tokens_in: Range, tokens_out: Range, mode: money.Mode) -> Range | None:
    prices = service.prices
    if service.provider == "offline" and mode == "online":
        return NOTHING
    if prices is None or (mode == "batch" and prices.batch is None):
        return None
    ends = (
        Usage(input=math.ceil(getattr(tokens_in, end)), output=math.ceil(getattr(tokens_out, end)))
        for end in ("low", "expected", "high")
    )
    return Range(*(money.cost(usage, prices, mode) / money.MICRO for usage in ends))


def _seconds(service: Service, calls: Range, tokens: Range, latency: Range) -> Range:
    if not calls.high:
        return NOTHING
    if service.mode == "batch":
        return BATCH_S
    at_once = 1 if service.provider == "offline" else service.concurrency
    seconds = calls * latency * (1 / at_once)
    for amount, limit in (
        (calls, service.requests_per_minute),
        (tokens, service.tokens_per_minute),
    ):
        if limit is not None:
            seconds = seconds.at_least(amount * (60 / limit))
    return seconds.at_least(latency if calls.low else exactly(0))
