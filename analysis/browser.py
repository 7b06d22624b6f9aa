"""The row browser: every judged answer of a run, in compressed chunks that a page inflates.

The page holds an index (who answered which prompt, every judge's mean) and chunks of texts and
single scores. Both are JSON, deflated, in base64: whatever a model wrote cannot end an element or
start a script, and the page only ever shows it as text.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from understudy.pipeline.record import RunRecord
from understudy.records import Answer, Coverage, read_rows, written
from understudy.store.artifacts import StageDir

from . import frame, labels

BUDGET = 24_000_000  # bytes of index and chunks; a page has at most 25 MB
_CHUNK = 1 << 18  # characters of JSON that are inflated at once
_SNIPPET = 90  # characters of a prompt that the list shows


@dataclass(frozen=True)
class System:
    """Who answered, and the finished evaluations of these answers by judge."""

    name: str  # in links
    label: str
    split: str  # the path of the prompts' stage
    judges: dict[str, StageDir] = field(default_factory=dict)


class Rows(NamedTuple):
    """All judged answers, rows of one prompt side by side."""

    systems: list[System]
    judges: list[str]
    prompts: list[Coverage]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Packed:
    """What the page holds."""

    index: str
    chunks: list[str]
    rows: int
    cut: int | None  # characters of the longest text that is whole; None: all are
    shortened: int  # texts that are not


def collect(run: RunRecord) -> Rows | None:
    """Read the answers and verdicts of all finished evaluations; None where there is none."""
    systems: dict[str, System] = {}
    for stage in _judged(run):
        inputs = stage.directory.read("inputs.json")["inputs"]
        summary = stage.directory.read("out/summary.json")
        if inputs["answers"] not in systems:
            name, label = _names(stage, summary["generator"])
            systems[inputs["answers"]] = System(name, label, inputs["split"])
        systems[inputs["answers"]].judges[_judge(stage, summary)] = stage.directory
    if not systems:
        return None
    judges = sorted({name for system in systems.values() for name in system.judges})
    prompts: dict[str, Coverage] = {}
    for path in dict.fromkeys(system.split for system in systems.values()):
        prompts |= {row.id: row for row in read_rows(run.stage(path).out / "rows.jsonl", Coverage)}
    rows: list[dict[str, Any]] = []
    for number, (path, system) in enumerate(systems.items()):
        said = [_verdicts(system.judges.get(judge)) for judge in judges]
        for answer in read_rows(run.stage(path).out / "rows.jsonl", Answer):
            verdicts = [found.get((answer.prompt_id, answer.k)) for found in said]
            rows.append({"system": number, "answer": answer, "verdicts": verdicts})
    rows.sort(key=lambda row: (row["answer"].prompt_id, row["system"], row["answer"].k))
    asked = dict.fromkeys(row["answer"].prompt_id for row in rows)
    return Rows(list(systems.values()), judges, [prompts[name] for name in asked], rows)


def _judged(run: RunRecord) -> Iterator[frame.Planned]:
    """The finished evaluations, those on the holdout last."""
    stages = list(frame.finished(run))
    for name, path in run.holdout.stages.items() if run.holdout else ():
        stage = frame.Planned(None, None, f"holdout {name}", run.stage(path))
        stages += [stage] if stage.directory.is_done else []
    return (stage for stage in stages if stage.kind == "evaluation")


def _names(stage: frame.Planned, generator: str) -> tuple[str, str]:
    """What links and what readers call the answers."""
    holdout, _, role = stage.name.rpartition(" ")
    if stage.round is not None:
        size = "" if stage.data_size is None else f", {labels.count(stage.data_size)} rows"
        return f"round-{stage.round}", f"Round {stage.round}: {labels.label(generator)}{size}"
    is_service = role.startswith("baseline")
    name = "baseline" if is_service else "local"
    label = f"{labels.ROLES[name].capitalize()}: {labels.label(generator)}"
    return (f"holdout-{name}", f"Holdout, {label}") if holdout else (name, label)


def _judge(stage: frame.Planned, summary: dict[str, Any]) -> str:
    """The judge, and how it was asked where that is not the usual way."""
    usual = ("default", "reference_first", "unknown")
    asked = (summary["prompt_variant"], summary["order"])
    unusual = [how for how in asked if how not in usual]
    judge = frame.judge_of(stage, summary)
    return f"{judge} ({', '.join(unusual)})" if unusual else judge


def _verdicts(directory: StageDir | None) -> dict[tuple[str, int], list[Any]]:
    """By answer: similarities, precisions, one verdict's two reasons, reasons for no score."""
    found: dict[tuple[str, int], list[Any]] = {}
    if directory is None:
        return found
    with (directory.out / "rows.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            one = found.setdefault((row["prompt_id"], row["k"]), [[], [], None, None, {}])
            if row["status"] != "scored":
                one[4][row["status"]] = one[4].get(row["status"], 0) + 1
                continue
            one[0].append(_short(row["similarity"]))
            one[1].append(_short(row["precision"]))
            if one[2] is None and one[3] is None:
                one[2], one[3] = row["reason_similarity"], row["reason_precision"]
    return found


def _short(score: float | None) -> float | int | None:
    return int(score) if score is not None and score == int(score) else score


def pack(found: Rows, budget: int = BUDGET) -> Packed:
    """Compress; texts are shortened to the greatest common length that fits into the budget."""
    lengths = np.array([len(text) for text in _texts(found)], dtype=np.int64)
    cut = int(lengths.max(initial=0))
    while True:
        chunks, starts = _chunks(found, cut)
        index = _deflate(_index(found, starts, cut))
        size = len(index) + sum(map(len, chunks))
        shortened = int((lengths > cut).sum())
        if size <= budget or cut <= _SNIPPET:
            return Packed(index, chunks, len(found.rows), cut if shortened else None, shortened)
        # 3 % less than in proportion, as shorter texts compress worse
        aim = 0.97 * budget / size * np.minimum(lengths, cut).sum()
        cut = _largest(lengths, aim, cut)


def _largest(lengths: Any, aim: float, above: int) -> int:
    """The largest cut below `above` that leaves at most `aim` characters."""
    low, high = 0, above
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.minimum(lengths, middle).sum() <= aim else (low, middle)
    return max(low, _SNIPPET)


def _texts(found: Rows) -> Iterator[str]:
    """Every text that may be shortened."""
    for prompt in found.prompts:
        yield from map(written, prompt.messages)
    for row in found.rows:
        yield row["answer"].said
        for verdict in row["verdicts"]:
            if verdict is not None:
                yield from (reason for reason in verdict[2:4] if reason is not None)


def _chunks(found: Rows, cut: int) -> tuple[list[str], list[tuple[int, int]]]:
    """The chunks, and the first row and the first prompt of each."""

    def said(text: str | None) -> str | None:
        if text is None or len(text) <= cut:
            return text
        return f"{text[:cut]} … ({labels.count(len(text) - cut)} more characters)"

    chunks: list[str] = []
    starts: list[tuple[int, int]] = []
    prompts: list[str] = []
    rows: list[str] = []
    size, place = 0, -1
    for number, row in enumerate(found.rows):
        answer = row["answer"]
        if place < 0 or found.prompts[place].id != answer.prompt_id:
            if size > _CHUNK:
                chunks.append(_join(prompts, rows))
                prompts, rows, size = [], [], 0
            place += 1
            if not prompts:
                starts.append((number, place))
            prompt = found.prompts[place]
            asked = [[message["role"], said(written(message))] for message in prompt.prompt]
            prompts.append(_dumps([asked, said(prompt.response), prompt.group_id]))
            size += len(prompts[-1])
        verdicts = [
            None if one is None else [one[0], one[1], said(one[2]), said(one[3]), one[4]]
            for one in row["verdicts"]
        ]
        rows.append(_dumps([said(answer.said), answer.tokens, verdicts]))
        size += len(rows[-1])
    return [*chunks, _join(prompts, rows)], starts


def _join(prompts: list[str], rows: list[str]) -> str:
    return _deflate(f'{{"prompts":[{",".join(prompts)}],"rows":[{",".join(rows)}]}}')


def _index(found: Rows, starts: list[tuple[int, int]], cut: int) -> str:
    """What the list and its filters need, by column."""
    places = {prompt.id: number for number, prompt in enumerate(found.prompts)}
    answers: list[Answer] = [row["answer"] for row in found.rows]
    tasks = sorted({prompt.task for prompt in found.prompts})
    finishes = sorted({answer.finish for answer in answers})
    means = {
        metric: [
            [_mean(row["verdicts"][judge], part) for row in found.rows]
            for judge in range(len(found.judges))
        ]
        for part, metric in enumerate(("similarity", "precision"))
    }
    return _dumps(
        {
            "judges": [labels.label(judge) for judge in found.judges],
            "systems": [[system.name, system.label] for system in found.systems],
            "tasks": [[task, labels.label(task)] for task in tasks],
            "finishes": finishes,
            "ids": [prompt.id for prompt in found.prompts],
            "task": [tasks.index(prompt.task) for prompt in found.prompts],
            "snippet": [" ".join(p.instruction.split())[:_SNIPPET] for p in found.prompts],
            "prompt": [places[answer.prompt_id] for answer in answers],
            "system": [row["system"] for row in found.rows],
            "k": [answer.k for answer in answers],
            "finish": [finishes.index(answer.finish) for answer in answers],
            "means": means,
            "starts": starts,
        }
    )


def _mean(verdict: list[Any] | None, part: int) -> float | None:
    scores = [] if verdict is None else [score for score in verdict[part] if score is not None]
    return round(sum(scores) / len(scores), 1) if scores else None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _deflate(text: str) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(text.encode()) + packer.flush()
    return base64.b64encode(data).decode("ascii")


class Sample(NamedTuple):
    """One judged answer."""

    title: str
    link: str  # to the same answer in the row browser
    prompt_id: str
    messages: list[dict[str, str]]
    reference: str
    answer: str
    finish: str
    similarity: float
    precision: float


def samples(found: Rows) -> tuple[str, list[Sample]]:
    """Who answered, and three answers by the mean of both scores over all verdicts."""
    rounds = [place for place, one in enumerate(found.systems) if one.name.startswith("round-")]
    if not rounds:
        return "", []
    system = found.systems[rounds[-1]]
    scored = []
    for row in found.rows:
        if row["system"] != rounds[-1]:
            continue
        similarity, precision = (_mean_of(row["verdicts"], part) for part in range(2))
        if similarity is not None and precision is not None:
            scored.append((similarity, precision, row["answer"]))
    # ties stay in the order of prompts, so that equal input gives an equal page
    scored.sort(key=lambda one: -(one[0] + one[1]))
    prompts = {prompt.id: prompt for prompt in found.prompts}
    picked = []
    places = {"Best": 0, "Median": (len(scored) - 1) // 2, "Worst": len(scored) - 1}
    for title, place in places.items() if scored else ():
        similarity, precision, answer = scored[place]
        link = quote(f"{system.name}:{answer.k}:{answer.prompt_id}", safe="")
        asked = prompts[answer.prompt_id]
        picked.append(
            Sample(
                *(title, f"#row={link}", asked.id, asked.prompt, asked.response),
                *(answer.said, answer.finish, similarity, precision),
            )
        )
    return system.label, picked


def _mean_of(verdicts: list[Any], part: int) -> float | None:
    scores = [
        score for one in verdicts if one is not None for score in one[part] if score is not None
    ]
    return sum(scores) / len(scores) if scores else None
