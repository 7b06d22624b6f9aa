"""Stage preference: the SFT model's own answers to train and validation prompts, good or not.

reads   `subset` and `split` (the prompts with their wanted answers), `answers.train` and
        `answers.validation` (sampled by the model that SFT has trained) and, where somebody labels
        them, `verdicts.train` and `verdicts.validation`
writes  rows.jsonl of records.Preference, summary.json (what was dropped, and why)

A wanted answer is there where a sampled one is worse, so that DPO finds pairs and KTO about as many
good answers as bad ones. Without a judge every answer in other words is worse.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from understudy.records import Answer, Coverage, Message, Preference, SplitName, Verdict
from understudy.store.artifacts import Job, RowLog

_GIVEN = ("stop", "tool_calls")  # others were cut off, or never given: no sign of what it prefers
_SPLITS: tuple[SplitName, ...] = ("train", "validation")


def run(job: Job) -> None:
    """Label every sampled answer once; equal ones to a prompt are one."""
    log = RowLog(job.out, Preference)
    log.rows.clear()
    log.path.write_text("")
    summary = dict[str, Any]()
    for split in _SPLITS:
        rows = job.rows("subset" if split == "train" else "split", Coverage)
        prompts = {row.id: row for row in rows if row.split == split}
        answers = [a for a in job.rows(f"answers.{split}", Answer) if a.prompt_id in prompts]
        role = f"verdicts.{split}"
        verdicts = job.rows(role, Verdict) if role in job.inputs else None
        counts = Counter[str]()
        made = list(labelled(prompts, answers, verdicts, job.config.preference.good, counts))
        log.append(made)
        summary[split] = {
            "prompts": len(prompts),
            "answers": len(answers),
            "rejected": sum(not row.is_good for row in made),
            "as_good": sum(row.is_good and row.k >= 0 for row in made),
            "dropped": dict(sorted(counts.items())),
        }
    log.finish()
    job.write_summary(summary)


def labelled(
    prompts: Mapping[str, Coverage],
    answers: Sequence[Answer],
    verdicts: Sequence[Verdict] | None,
    good: float,
    dropped: Counter[str],
) -> Iterator[Preference]:
    """The labelled answers, after the wanted one where one of them is worse.

    `verdicts` None: nobody labels. `good` is the mean score, 0 to 100, from which an answer is as
    good as the wanted one. `dropped` counts answers by reason: "cut_off", "equal" to the wanted
    one, "repeated" and "unscored".
    """
    scores = None if verdicts is None else _scores(verdicts)
    found, seen = defaultdict[str, list[Preference]](list), set[tuple[str, str]]()
    for answer in sorted(answers, key=lambda one: one.key):
        row, key = prompts[answer.prompt_id], (answer.prompt_id, answer.k)
        said = answer.prompt_id, answer.said.strip()
        score = None if scores is None else scores.get(key)
        if answer.finish not in _GIVEN:
            dropped["cut_off"] += 1
        elif said[1] == row.response.strip():
            dropped["equal"] += 1
        elif said in seen:
            dropped["repeated"] += 1
        elif scores is not None and score is None:
            dropped["unscored"] += 1
        else:
            seen.add(said)
            turn: Message = {"role": "assistant", "content": answer.text}
            if answer.tool_calls:
                turn |= {"content": answer.text or None, "tool_calls": answer.tool_calls}
            is_good = score is not None and score >= good
            found[row.id].append(_row(row, answer.k, turn, is_good, score))
    for name, some in found.items():
        if not all(one.is_good for one in some):
            yield _row(prompts[name], -1, prompts[name].messages[-1], True, None)
        yield from some


def _row(row: Coverage, k: int, turn: Message, is_good: bool, score: float | None) -> Preference:
    assert row.split is not None, f"{row.id} is of no split"
    messages = [*row.messages[:-1], turn]
    return Preference(row.id, row.group_id, row.split, k, messages, is_good, score, tools=row.tools)


def _scores(verdicts: Sequence[Verdict]) -> dict[tuple[str, int], float]:
    """The mean score of each answer over its valid verdicts and what they measure."""
    given = defaultdict[tuple[str, int], list[float]](list)
    for one in verdicts:
        both = [score for score in (one.similarity, one.precision) if score is not None]
        given[one.prompt_id, one.k] += both
    return {key: fmean(scores) for key, scores in given.items() if scores}
