"""The evaluation stage of a grader: a rule scores every answer of one generator, once.

It is free and in this process (models' code and SQL in the sandbox), so an interrupted stage starts
anew and nothing is kept in a journal.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from understudy.config.grader import Code, Grader, MetricName, Python, Sql, measures
from understudy.evaluation import graders, scores
from understudy.evaluation.graders import Case, Graded, Outcome, Ungraded
from understudy.playground.sandbox import Sandbox
from understudy.prompts.calls import Call
from understudy.records import Answer, Coverage, ToolCall, Verdict
from understudy.store.artifacts import Job, RowLog
from understudy.store.progress import track

FAMILY = "rule"  # which no generator is of
_NO_PROMPT = "unknown"  # what tables know as "not asked in any way"
_MOST_AT_ONCE = 4  # processes of the sandbox


def run(job: Job) -> None:
    """Graded the answers to one split; params: `judge` (a name in config.graders) and `split`."""
    name = job.params["judge"]
    settings = job.config.graders[name]
    rows = list(job.rows("split", Coverage))
    prompts, answers = scores.asked_of(job, rows)
    log = RowLog(job.out, Verdict)
    log.rows.clear()
    log.path.write_text("")
    given = [answer for answer in answers if answer.finish != "error"]
    outcomes = list[Outcome]()
    with Sandbox(min(_MOST_AT_ONCE, os.cpu_count() or 1)) as sandbox:
        rule = graders.made(settings, [row for row in rows if row.split == "train"], sandbox)
        items = (_item(prompts[answer.prompt_id], answer) for answer in given)
        with track(f"judge {name}", len(given), "verdicts") as advance:
            for outcome in _graded(rule, items, settings, sandbox):
                outcomes.append(outcome)
                advance()
        job.notes["warnings"] = sandbox.warnings
    measured = measures(settings)
    log.append(_verdict(name, a, o, measured) for a, o in zip(given, outcomes, strict=True))
    log.append(_verdict(name, a, None, measured) for a in answers if a.finish == "error")
    job.write_summary(
        {
            "judge": name,
            "judge_family": FAMILY,
            "generator": answers[0].generator,
            "family": answers[0].family,
            "prompt_variant": _NO_PROMPT,
            "order": _NO_PROMPT,
            "m": 1,
            "measures": list(measured),
            **scores.summarize(answers, log.finish()),
            "rule": scores.rule(answers, prompts),
            "executes": None,
            "confusion": confusion(outcomes),
        }
    )


def _item(row: Coverage, answer: Answer) -> Case:
    expected = row.expected or {}
    calls = row.messages[-1].get("tool_calls", [])
    case = Case(row.prompt, row.response, expected, answer.said)
    if not (row.tools or calls):
        return case
    return case._replace(
        expected={"tools": row.tools} | expected,
        wanted=_calls(calls),
        given=_calls(answer.tool_calls or []),
    )


def _calls(calls: Sequence[ToolCall]) -> list[Call]:
    return [Call(call["name"], call["arguments"]) for call in calls]


def _graded(
    rule: graders.Rule, items: Iterable[Case], settings: Grader, sandbox: Sandbox
) -> Iterator[Outcome]:
    """The outcomes in order; those that wait for the sandbox side by side."""
    if not isinstance(settings, Code | Sql | Python):
        yield from map(rule, items)
        return
    with ThreadPoolExecutor(sandbox.size) as threads:
        yield from threads.map(rule, items)


def _verdict(
    name: str, answer: Answer, outcome: Outcome | None, measured: Sequence[MetricName]
) -> Verdict:
    """One row; `outcome` None: the answer was never given."""
    grade = outcome if isinstance(outcome, Graded) else None
    status = "no_answer" if outcome is None else "scored"
    if isinstance(outcome, Ungraded):
        status = outcome.status
    return Verdict(
        prompt_id=answer.prompt_id,
        generator=answer.generator,
        k=answer.k,
        judge=name,
        judge_family=FAMILY,
        prompt_variant=_NO_PROMPT,
        order=_NO_PROMPT,
        m=0,
        scale="0-100",
        similarity=grade.similarity if grade and "similarity" in measured else None,
        precision=grade.precision if grade else None,
        reason_similarity=None,
        reason_precision=None if outcome is None else outcome.reason,
        status=status,
    )


def confusion(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Which label was given where which was wanted, with counts; None of graders without labels.

    `macro_f1` is the mean over wanted labels of F1 = 2 right / (wanted + given), 0 to 100.
    """
    pairs = Counter(o.labels for o in outcomes if isinstance(o, Graded) and o.labels is not None)
    if not pairs:
        return None
    wanted, given, right = Counter[str](), Counter[str](), Counter[str]()
    for (expected, said), count in pairs.items():
        wanted[expected] += count
        if said is not None:
            given[said] += count
            right[expected] += count * (said == expected)
    f1 = [200 * right[label] / (wanted[label] + given[label]) for label in wanted]
    rows = [[*pair, count] for pair, count in pairs.items()]
    rows.sort(key=lambda row: (row[0], row[1] is None, row[1] or ""))
    return {"macro_f1": round(sum(f1) / len(f1), 4), "pairs": rows}
