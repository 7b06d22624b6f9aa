"""What the stages that ask a service will send: how many calls, and how long.

Sizes are those of the rendered messages, in bytes of UTF-8; what an answer that does not exist yet
adds is estimated by its reference.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.config import Config, Service
from understudy.evaluation.judge import conversation, index_of
from understudy.pipeline.stages import Stage
from understudy.plan.inputs import Inputs, begun
from understudy.plan.ranges import Range, exactly
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.records import Answer, Coverage
from understudy.services.base import Request

BYTES_PER_TOKEN = 4.0  # English with today's tokenizers, the makers' own rule of thumb
JUDGE_TOKENS = Range(60, 130, 400)  # two reasons of one or two sentences, and the JSON around
YIELD = Range(0.25, 0.9, 1.0)  # share of the pairs of a reply that are accepted
_LEAST_YIELD = 0.01  # where no floor is set
_JSON = 1.15  # names, quotes and escapes around the text of a pair


@dataclass(frozen=True)
class Calls:
    """The calls of one stage."""

    service: Service
    asked: Range  # number of calls; equal ones are sent once
    repairs: int  # calls that may follow, at most
    size: float  # mean bytes of a request
    reply: Range  # output tokens of a call as long as nothing is learnt


class Known(NamedTuple):
    """What may be looked at to know better."""

    inputs: Inputs
    has_reply: Callable[[Service, Request], bool]  # whether the journal answers it
    seen: set[tuple[str, str, int]]  # requests of the stages before
    judged: set[tuple[str, str]]  # judge and split of the evaluations before
    yields: dict[str, Range]  # accepted share of a teacher's pairs, by service


def calls_of(root: Path, stage: Stage, config: Config, known: Known) -> Calls | None:
    """The calls that a stage still has to make; None where it asks nobody, or cannot be known."""
    if (of := _OF.get(stage.name)) is None:
        return None
    return of(root, stage, config, known)


def _evaluation(root: Path, stage: Stage, config: Config, known: Known) -> Calls | None:
    """An answer that equals another generator's is judged once; which will, nobody knows yet."""
    service = config.judges[stage.params["judge"]]
    prompts = _prompts(root, stage, config, known)
    if prompts is None:
        return None
    done = {
        (row["prompt_id"], row["k"], row["m"]) for row in begun(root / stage.path, "out/rows.jsonl")
    }
    answers = known.inputs.rows(root, stage.inputs["answers"], config, Answer)
    settings = config.evaluation
    sizes: list[int] = []
    for row, k, text in _answers(prompts, answers, config.inference.k):
        messages = judge_prompt.render(
            settings.prompt, settings.order, conversation(row.prompt), row.response, text
        )
        for m in range(settings.m):
            request = Request(messages, index_of(k, m), judge_prompt.schema(settings.prompt))
            if (row.id, k, m) not in done and (answers is None or _is_new(service, request, known)):
                sizes.append(_size(request))
    pair = service.name, stage.inputs["split"].path
    may_be_known = answers is None and pair in known.judged and service.provider != "offline"
    known.judged.add(pair)
    asked = Range(0 if may_be_known else len(sizes), len(sizes), len(sizes))
    return Calls(service, asked, len(sizes), _mean(sizes), JUDGE_TOKENS)


def _is_new(service: Service, request: Request, known: Known) -> bool:
    """Whether nobody has asked or will have asked this already."""
    if service.provider == "offline":  # which is free, and keeps no journal
        return True
    key = service.name, request.messages[-1]["content"], request.index
    if key in known.seen or known.has_reply(service, request):
        return False
    known.seen.add(key)
    return True


def _answers(
    prompts: Sequence[Coverage], answers: Sequence[Answer] | None, count: int
) -> Iterator[tuple[Coverage, int, str]]:
    """The answers to be judged; while there are none, `count` a prompt as the reference is."""
    if answers is None:
        yield from ((row, k, row.response) for row in prompts for k in range(count))
        return
    by_id = {row.id: row for row in prompts}
    for answer in answers:
        if answer.prompt_id in by_id and answer.finish != "error":
            yield by_id[answer.prompt_id], answer.k, answer.text


def _baseline(root: Path, stage: Stage, config: Config, known: Known) -> Calls | None:
    service = config.baseline.service
    assert service is not None, "a baseline stage has a service"
    if (prompts := _prompts(root, stage, config, known)) is None:
        return None
    done = {(row["prompt_id"], row["k"]) for row in begun(root / stage.path, "out/rows.jsonl")}
    requests = [
        Request(tuple(row.prompt), index=k)
        for row in prompts
        for k in range(config.inference.k)
        if (row.id, k) not in done
    ]
    sizes = [_size(r) for r in requests if not known.has_reply(service, r)]
    expected = _mean([len(row.response.encode()) for row in prompts]) / BYTES_PER_TOKEN
    reply = Range(expected / 4, expected, max(expected * 8, 300))  # services like to say more
    return Calls(service, exactly(len(sizes)), 0, _mean(sizes), reply)


def _synthesis(root: Path, stage: Stage, config: Config, known: Known) -> Calls | None:
    settings, service = config.synthesis, config.synthesis.service
    assert service is not None, "synthesis.kind=service has a service"
    split = known.inputs.rows(root, stage.inputs["split"], config, Coverage)
    if split is None:
        return None
    seeds = [row for row in split if row.split == "train"]
    sizes, pairs = [], []
    for seed in seeds:
        pair = seed.instruction, seed.response
        messages = synthesis_prompt.render(
            *pair, config.task.topic, settings.pairs_per_call, config.task.name
        )
        sizes.append(_size(Request(messages)))
        pairs.append(sum(len(text.encode()) for text in pair))
    had = len(begun(root / stage.path, "scratch/replies.jsonl"))
    made = known.yields.get(service.name, YIELD) * settings.pairs_per_call
    rows = int(stage.params["rows"])
    most = math.ceil(rows / (settings.pairs_per_call * max(settings.min_yield, _LEAST_YIELD)))
    calls = (math.ceil(rows / per_call) for per_call in (made.high, made.expected, made.low))
    asked = Range(*(max(0, min(most, number) - had) for number in calls))
    tokens = settings.pairs_per_call * _mean(pairs) * _JSON / BYTES_PER_TOKEN
    return Calls(service, asked, 0, _mean(sizes), Range.around(tokens, 2))


def _prompts(root: Path, stage: Stage, config: Config, known: Known) -> list[Coverage] | None:
    """The rows of the split that a stage works on."""
    rows = known.inputs.rows(root, stage.inputs["split"], config, Coverage)
    if rows is None:
        return None
    return [row for row in rows if row.split == stage.params["split"]]


def _size(request: Request) -> int:
    return sum(len(message["content"].encode()) for message in request.messages)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def accepted(out: Path, config: Config) -> Range:
    """The share of a finished block's pairs that were accepted."""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    share = summary["rows"] / max(1, summary["calls"] * config.synthesis.pairs_per_call)
    return Range(share / 2, share, 1.0) if share <= 1 else exactly(1)


_OF: dict[str, Callable[[Path, Stage, Config, Known], Calls | None]] = {
    "evaluation": _evaluation,
    "baseline": _baseline,
    "synthesis": _synthesis,
}
