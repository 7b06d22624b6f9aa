"""ReadyAnswers-made answers, with or without verdicts: the entrance of who only wants them judged.

LlamaDuo's published columns (`instructions, target_responses, candidate_responses, model_id,
model_sha`, in its evaluations also `similarity_scores, precision_scores, evaluators`) or the
plain ones (`prompt, reference, candidate, generator`, also `family, evaluator, similarity,
precision, seconds, usd`, and `group_id`, `conversation_id`, `document_id` or `user_id`). One row is
one answer; the same answer again under another evaluator is not new.

The rows of one conversation are one cluster. Without a column for it, or where a gateway saw
neither a user nor a conversation (`group_of` is "start"), prompts that begin with near-duplicates
of the same user turn are: a bot that asks the same thing 50 times is no 50 witnesses.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from understudy.config import InferenceConfig
from understudy.data import formats, sources
from understudy.data.duplicates import clusters, same
from understudy.data.rejects import BadRow
from understudy.errors import BadInput
from understudy.records import Answer, Coverage, Message
from understudy.store.artifacts import Job, RowLog, canonical

NO_TOPIC = "prompts without a system text"
_TOPIC = 60  # characters of a topic
_PLAIN = ("prompt", "reference", "candidate", "generator")
_NAMES = {  # ours -> LlamaDuo's
    **{"prompt": "instructions", "reference": "target_responses"},
    **{"candidate": "candidate_responses", "generator": "model_id", "revision": "model_sha"},
    **{"evaluator": "evaluators", "similarity": "similarity_scores"},
    **{"precision": "precision_scores"},
}


class AnswerRow(NamedTuple):
    """One row of the file."""

    prompt: list[Message]
    reference: str
    text: str
    generator: str
    revision: str
    family: str | None
    evaluator: str | None
    similarity: float | None
    precision: float | None
    group: str | None  # the conversation or user; null where nobody has told
    seconds: float | None  # from the request to the whole answer
    usd: float | None  # what it has cost


class Score(NamedTuple):
    """An evaluator's averages for one answer."""

    prompt_id: str
    k: int
    similarity: float | None
    precision: float | None


class ReadyAnswers(NamedTuple):
    """A file of ready-made answers, understood."""

    prompts: list[Coverage]
    bad: list[str]
    answers: dict[str, list[Answer]]  # by generator
    scores: dict[tuple[str, str], list[Score]]  # by generator and evaluator
    notices: list[str]
    seconds: dict[str, list[float]]  # by generator, of the answers that tell
    usd: dict[str, dict[str, list[float]]]  # by generator and topic, of the answers that tell


def run_prompts(job: Job) -> None:
    """Write the prompts with their references, all as test rows."""
    ready = load(job.config.inference, job.config.task.name)
    sources.log(ready.bad)
    log = RowLog(job.out, Coverage)
    log.append(row for row in ready.prompts if row.key not in log.rows)
    job.notes["rows"] = len(log.finish())
    job.notes["notices"] = ready.notices


def run_answers(job: Job) -> None:
    """Write the answers of `params.generator`."""
    ready = load(job.config.inference, job.config.task.name)
    log = RowLog(job.out, Answer)
    answers = ready.answers[job.params["generator"]]
    log.append(answer for answer in answers if answer.key not in log.rows)
    job.notes["rows"] = len(log.finish())
    if seconds := sorted(ready.seconds.get(job.params["generator"], [])):
        p50, p95 = (seconds[math.ceil(share * len(seconds)) - 1] for share in (0.5, 0.95))
        job.notes["latency_s"] = {"p50": p50, "p95": p95, "of": f"{len(seconds)} answers"}
    if usd := ready.usd.get(job.params["generator"]):
        job.notes["usd"] = {about: [len(paid), math.fsum(paid)] for about, paid in usd.items()}


def topic(prompt: Sequence[Message]) -> str:
    """Return what a prompt is about: how the text begins that an application puts before all."""
    text = next((turn["content"] for turn in prompt if turn["role"] == "system"), None) or ""
    words = " ".join(text.split())
    return f"{words[:_TOPIC]}…" if len(words) > _TOPIC else words or NO_TOPIC


def load(source: InferenceConfig, task: str) -> ReadyAnswers:
    """Prompts, answers and averages of a file or hub data set."""
    raws = sources.read(source)
    columns = _columns(formats.columns(raws), sources.where(source))
    taken = sources.take(raws, lambda values: _line(values, columns), source.tolerance)
    lines = _with_revisions([line for _, line in taken.rows])
    groups = _groups(lines)
    prompts: dict[str, Coverage] = {}
    answers: defaultdict[str, list[Answer]] = defaultdict(list)
    scores: defaultdict[tuple[str, str], list[Score]] = defaultdict(list)
    numbers: defaultdict[tuple[str, str], dict[tuple[str, int], int]] = defaultdict(dict)
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    usd: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
    seen: Counter[tuple[str, ...]] = Counter()
    for line, group in zip(lines, groups, strict=True):
        row = _prompt(line, group, task)
        prompts.setdefault(row.id, row)
        # Equal texts of one evaluator are several answers; of several evaluators they are one.
        occurrence = (line.evaluator or "", line.generator, row.id, line.text)
        ks = numbers[line.generator, row.id]
        if (line.text, seen[occurrence]) not in ks:
            ks[line.text, seen[occurrence]] = len(ks)
            answers[line.generator].append(_answer(source, line, row, len(ks) - 1))
            seconds[line.generator] += [] if line.seconds is None else [line.seconds]
            if line.usd is not None:
                usd[line.generator].setdefault(topic(line.prompt), []).append(line.usd)
        k = ks[line.text, seen[occurrence]]
        seen[occurrence] += 1
        if line.evaluator is not None:
            average = Score(row.id, k, line.similarity, line.precision)
            scores[line.generator, line.evaluator].append(average)
    notices = [
        f"inference: {len(lines)} rows: {len(prompts)} prompts, answers of {', '.join(answers)}",
        *(f"inference: verdicts of {name}" for name in sorted({judge for _, judge in scores})),
    ]
    unnamed = [group for line, group in zip(lines, groups, strict=True) if line.group is None]
    if unnamed:
        notices.append(
            f"inference: {len(unnamed)} rows name no conversation or user: by how their prompts "
            f"begin they are {len(set(unnamed))} clusters"
        )
    if taken.bad:
        notices.append(f"inference: {len(taken.bad)} bad rows skipped; first: {taken.bad[0]}")
    return ReadyAnswers(
        *(list(prompts.values()), taken.bad, dict(answers), dict(scores), notices),
        *(dict(seconds), dict(usd)),
    )


def _columns(names: Collection[str], where: str) -> dict[str, str]:
    """Our name -> the file's, for the columns that it has."""
    for known in (_NAMES, {name: name for name in (*_NAMES, "family", "seconds", "usd")}):
        if all(known[name] in names for name in _PLAIN):
            found = {name: column for name, column in known.items() if column in names}
            group = formats.column("group", None, names, where)
            return found if group is None else found | {"group": group}
    raise BadInput(
        f"{where} has the columns {', '.join(names)}; needed are {', '.join(_PLAIN)} or "
        f"{', '.join(_NAMES[name] for name in _PLAIN)}"
    )


def _line(values: dict[str, Any], columns: dict[str, str]) -> AnswerRow:
    given = {name: values.get(column) for name, column in columns.items()}
    texts = [formats.text(values, columns[name]) for name in ("reference", "candidate")]
    if not texts[0].strip():
        raise BadRow(f"has an empty {columns['reference']}")
    if not given["generator"]:
        raise BadRow(f"has no {columns['generator']}")
    return AnswerRow(
        prompt=_messages(given["prompt"], columns["prompt"]),
        reference=texts[0],
        text=texts[1],
        generator=str(given["generator"]),
        revision=str(given.get("revision") or ""),
        family=given.get("family"),
        evaluator=given.get("evaluator"),
        similarity=_score(given.get("similarity"), "similarity"),
        precision=_score(given.get("precision"), "precision"),
        group=(
            None
            if given.get("group") in (None, "") or values.get("group_of") == "start"
            else str(given["group"])
        ),
        seconds=_positive(given.get("seconds")),
        usd=_positive(given.get("usd")),
    )


def _messages(value: Any, column: str) -> list[Message]:
    """A prompt is a text, or the messages before the answer."""
    if isinstance(value, str) and value.strip():
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        raise BadRow(f"has no text in {column}")
    whole = {"messages": [*value, {"role": "assistant", "content": "-"}]}
    return formats.conversation(whole, "messages")[:-1]


def _positive(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < float("inf") else None


def _score(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadRow(f"has {name} {value!r}, which is no number") from None
    if number != number:  # NaN is how a data frame writes what is missing
        return None
    if not 0 <= number <= 100:
        raise BadRow(f"has {name} {value}, which is not from 0 to 100")
    return number


def _with_revisions(lines: list[AnswerRow]) -> list[AnswerRow]:
    """Generators that come in several revisions, each under a name of its own."""
    revisions: defaultdict[str, set[str]] = defaultdict(set)
    for line in lines:
        revisions[line.generator].add(line.revision)
    return [
        line._replace(generator=f"{line.generator}@{line.revision[:12] or 'unknown'}")
        if len(revisions[line.generator]) > 1
        else line
        for line in lines
    ]


def _groups(lines: list[AnswerRow]) -> list[str]:
    """The cluster of every row: of its conversation or user, else of how its prompt begins."""
    # What a conversation begins with stays in the prompts of its later turns.
    begins = [
        next(turn["content"] for turn in line.prompt if turn["role"] == "user")
        for line in lines
        if line.group is None
    ]
    unnamed = (_hash(same(begins[first])) for first in clusters(begins))
    return [next(unnamed) if line.group is None else _hash(["group", line.group]) for line in lines]


def _prompt(line: AnswerRow, group: str, task: str) -> Coverage:
    messages = [*line.prompt, {"role": "assistant", "content": line.reference}]
    return Coverage(
        id=_hash(messages),
        group_id=group,
        messages=messages,
        task=task,
        licence=None,
        source="answers",
        split="test",
    )


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _answer(source: InferenceConfig, line: AnswerRow, row: Coverage, k: int) -> Answer:
    return Answer(
        prompt_id=row.id,
        group_id=row.group_id,
        k=k,
        text=line.text,
        tokens=None,
        finish="stop",
        generator=line.generator,
        family=source.families.get(line.generator) or line.family or "unknown",
    )
