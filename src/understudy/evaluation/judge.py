"""The evaluation stage: one judge scores every answer of one generator, M times."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from understudy.config import Config
from understudy.evaluation import scale, scores
from understudy.evaluation.statistics.intervals import cluster_rate
from understudy.playground.sandbox import run_python
from understudy.prompts import judge as prompt
from understudy.records import Answer, Coverage, Message, Verdict
from understudy.services.account import account_of
from understudy.services.base import Reply, Request
from understudy.services.client import ask
from understudy.store.artifacts import Job, RowLog
from understudy.store.progress import track

_FENCE = re.compile(r"```(?:python|py)?\n(.*?)```", re.DOTALL)
_REPEATS = 10**6  # more than any m, so that (k, m) is one number
_UNPARSED = {"length": "cut_off", "refusal": "refused", "blocked": "blocked", "error": "error"}


def run(job: Job) -> None:
    """Judge the answers to one split; params: `judge` (a name in config.judges) and `split`."""
    config, name = job.config, job.params["judge"]
    prompts, answers = scores.asked_of(job, job.rows("split", Coverage))
    log = RowLog(job.out, Verdict)
    wanted = [_unjudged(config, name, a, m) for a in answers for m in range(config.evaluation.m)]
    never_given = {answer.key for answer in answers if answer.finish == "error"}
    open_rows = [row for row in wanted if row.key not in log.rows]
    log.append(row for row in open_rows if row.key[:3] in never_given)
    to_ask = [row for row in open_rows if row.key not in log.rows]

    texts = {answer.key: answer.said for answer in answers}

    def request(row: Verdict) -> Request:
        return _request(config, prompts[row.prompt_id], texts[row.key[:3]], row)

    service, shares = config.judges[name], scale.FirstReplies()
    account, again = account_of(job), repair(config.evaluation.prompt, service.scale, shares)
    with track(f"judge {name}", len(wanted), "verdicts") as advance:
        advance(len(wanted) - len(to_ask))
        for position, reply in ask(service, map(request, to_ask), account, again):
            row = judged(to_ask[position], reply, service.scale)
            if service.scale is None:
                first = request(row) if shares else None
                row = scale.unsettled(row, reply, first is not None and shares.hold(first))
            log.append([row])
            advance(note=account.note)
    job.notes.update(account.summary())

    log.rows = {row.key: row for row in scale.settle(log.rows.values())}
    verdicts = log.finish()
    if warnings := scale.warnings(verdicts, service.scale is not None):
        job.notes["warnings"] = warnings
    job.write_summary(
        {
            "judge": name,
            "judge_family": config.judges[name].family,
            "generator": answers[0].generator,
            "family": answers[0].family,
            "prompt_variant": config.evaluation.prompt,
            "order": config.evaluation.order,
            "m": config.evaluation.m,
            **scores.summarize(answers, verdicts),
            "rule": scores.rule(answers, prompts),
            "executes": executes(answers) if config.task.execute_code else None,
        }
    )


def repair(
    variant: prompt.Variant, own: float | None = None, shares: scale.FirstReplies | None = None
) -> Callable[[Request, Reply], Request | None]:
    """A function: the call that asks again for a verdict; None where it can be read, or never.

    `own` is the judge's own scale; `shares` keeps the calls whose reply was in shares of 1.
    """

    def again(request: Request, reply: Reply) -> Request | None:
        if reply.finish != "stop":
            return None
        messages = prompt.repair(request.messages, reply.text, variant, own)
        if messages is None:
            return None
        if shares is not None:
            shares.note(request, reply, variant)
        return replace(request, messages=messages)

    return again


def _unjudged(config: Config, judge: str, answer: Answer, m: int) -> Verdict:
    """The verdict on an answer that was never given, and the blank of every other."""
    return Verdict(
        prompt_id=answer.prompt_id,
        generator=answer.generator,
        k=answer.k,
        judge=judge,
        judge_family=config.judges[judge].family,
        prompt_variant=config.evaluation.prompt,
        order=config.evaluation.order,
        m=m,
        scale=f"0-{config.judges[judge].scale or prompt.most(config.evaluation.prompt):g}",
        similarity=None,
        precision=None,
        reason_similarity=None,
        reason_precision=None,
        status="no_answer",
    )


def _request(config: Config, row: Coverage, candidate: str, verdict: Verdict) -> Request:
    variant, order = config.evaluation.prompt, config.evaluation.order
    messages = prompt.render(variant, order, conversation(row.prompt), row.response, candidate)
    assert verdict.m is not None, f"{verdict.key} is an imported average, not a call"
    return Request(messages, index_of(verdict.k, verdict.m), prompt.schema(variant))


def index_of(k: int, m: int) -> int:
    """The index of the m-th call about answer k: equal answers of another k are judged anew."""
    return k * _REPEATS + m


def conversation(messages: Sequence[Message]) -> str:
    """The instruction as a judge reads it: the last user turn, after earlier turns by speaker."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(
        f"{message['role'].capitalize()}:\n{message['content']}" for message in messages
    )


def judged(blank: Verdict, reply: Reply, own: float | None = None) -> Verdict:
    """The blank filled in from a reply; without usable scores they stay null, and why is said.

    `own` is the highest score of a judge that keeps to a scale of its own.
    """
    if reply.finish != "stop":
        return replace(blank, status=_UNPARSED[reply.finish])
    parsed = prompt.parse(reply.text, blank.prompt_variant, own)
    if isinstance(parsed, prompt.Unscored):
        return replace(blank, status=parsed.status)
    return replace(blank, **parsed._asdict(), status="scored")


def executes(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """The rate (0 to 1) of given answers that load as Python without an error or a timeout.

    It says nothing of what the code does; a rule or a judge does. `sandbox` says what is allowed.
    """
    given = [answer for answer in answers if answer.finish != "error"]
    if not given:
        return None
    # Asked for no function: "no function" then means that all of the code was run.
    states = [run_python(code(answer.text), "", []).status for answer in given]
    passed = [state == "no function" for state in states]
    found = cluster_rate(passed, [answer.group_id for answer in given])
    limits = {"rate": found.mean, "low": found.low, "high": found.high}
    return {"n": len(given), "passed": sum(passed), **limits}


def code(text: str) -> str:
    """The fenced blocks of an answer, or all of it where there are none."""
    return "\n".join(_FENCE.findall(text)) or text
