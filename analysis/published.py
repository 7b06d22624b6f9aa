"""Evaluations in the schema that llama-duo published, from a local copy or the hub.

Their names say the rest: `llama-duo/gemma7b-summarize-gpt4o-16k` is Gemma 7B on summarization,
trained on 16k rows that GPT-4o wrote. A set whose generators are of the owner `rehearsal` is made
up, and every table and figure says so.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from understudy.config import InferenceConfig
from understudy.data import answers, hub
from understudy.errors import BadInput
from understudy.records import Answer

from . import labels
from .evaluations import Evaluation, System, log_ratio

_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_HUB = "hub:"
_TEACHERS = [alias for name in labels.SERVICES.values() for alias in name.aliases]
_GENERATOR = re.compile(
    rf"(?P<model>.+?)[-_](?P<task>[a-z]+)[-_](?P<teacher>{'|'.join(map(re.escape, _TEACHERS))})"
    r"[-_](?P<size>\d+)k"
)
_REHEARSAL_OWNER = "rehearsal"
_UNKNOWN = "unknown"


class Generator(NamedTuple):
    """What the name of a generator says."""

    model: str
    task: str | None
    teacher: str | None
    data_size: float


def is_published(source: str) -> bool:
    """Whether the source is a file or hub set of published answers, and no run."""
    place = source.partition("=")[2] or source
    return place.startswith(_HUB) or (place.endswith(_SUFFIXES) and Path(place).name != "run.json")


def generator(name: str) -> Generator:
    """The parts of a published generator's name; a name of another form is the model's."""
    bare = name.rpartition("/")[2]
    found = _GENERATOR.fullmatch(bare)
    if not found or labels.canonical(found["task"]) not in labels.TASKS:
        return Generator(labels.canonical(bare), None, None, float("nan"))
    return Generator(
        labels.canonical(found["model"]),
        labels.canonical(found["task"]),
        labels.canonical(found["teacher"]),
        1000.0 * int(found["size"]),
    )


def evaluations(source: str) -> list[Evaluation]:
    """One per generator and evaluator of the set."""
    given, _, place = source.rpartition("=")
    # The entrance of ready-made answers is reused; how to sample says nothing there.
    options: Any = {"k": 1, "temperature": 0.0, "max_new_tokens": 1, "batch_size": 1}
    if place.startswith(_HUB):
        config = InferenceConfig(kind="hub", repo=place.removeprefix(_HUB), **options)
        hub.check(config)
    else:
        if not Path(place).expanduser().is_file():
            raise BadInput(f"{place} does not exist; a source is a run, a file or {_HUB}OWNER/NAME")
        config = InferenceConfig(kind="file", path=place, **options)
    ready = answers.load(config, "unknown")
    if not ready.scores:
        raise BadInput(f"{place} has no evaluators column, so nobody has judged its answers")
    task = _task(given, place, list(ready.answers))
    wanted = {row.id: row.response for row in ready.prompts}
    systems = {
        name: _system(name, task, rows, wanted, Path(place).name)
        for name, rows in ready.answers.items()
    }
    return [
        _evaluation(systems[name], judge, scores) for (name, judge), scores in ready.scores.items()
    ]


def _task(given: str, place: str, generators: list[str]) -> str:
    """The task of a whole set: as given, as its generators say, or as its own name says."""
    if given:
        return labels.canonical(given)
    said = {generator(name).task for name in generators} - {None}
    words = re.split(r"[-_./:]", place.lower())
    said |= {labels.canonical(word) for word in words} & labels.TASKS.keys() if not said else set()
    tasks = [task for task in said if task is not None]
    if len(tasks) != 1:
        raise BadInput(
            f"which task {place} is about cannot be told from its names; "
            f"give TASK={place} with one of {', '.join(labels.TASKS)}"
        )
    return tasks[0]


def _system(
    name: str, task: str, rows: list[Answer], wanted: dict[str, str], source: str
) -> System:
    return System(
        **origin(name, rows[0].family),
        task=task,
        run=source,
        is_rehearsal=name.startswith(f"{_REHEARSAL_OWNER}/"),
        prompt=np.array([row.prompt_id for row in rows]),
        cluster=np.array([row.group_id for row in rows]),
        k=np.array([row.k for row in rows], dtype=np.intp),
        length=log_ratio([row.text for row in rows], [wanted[row.prompt_id] for row in rows]),
    )


def origin(name: str, family: str) -> dict[str, Any]:
    """What a generator's name says of the model and what it learned from."""
    said = generator(name)
    return {
        "role": "baseline" if said.model in labels.SERVICES else "local",
        "model": said.model,
        "family": _family(said.model, family),
        "teacher": said.teacher,
        "teacher_family": labels.FAMILIES.get(said.teacher or ""),
        "data_size": said.data_size,
        "trainer": None,
        "seed": None,
        "steps": float("nan"),
    }


def _family(name: str, said: str) -> str:
    """As said in the rows, else as known; an unknown one is nobody else's either."""
    return labels.FAMILIES.get(name, f"{_UNKNOWN} ({name})") if said == _UNKNOWN else said


def _evaluation(system: System, judge: str, scores: list[answers.Score]) -> Evaluation:
    places = {
        (prompt, int(k)): place
        for place, (prompt, k) in enumerate(zip(system.prompt, system.k, strict=True))
    }
    return Evaluation(
        system=system,
        judge=labels.canonical(judge),
        judge_family=_family(labels.canonical(judge), _UNKNOWN),
        prompt_variant=_UNKNOWN,
        order=_UNKNOWN,
        answer=np.array([places[one.prompt_id, one.k] for one in scores], dtype=np.intp),
        repeat=np.zeros(len(scores), dtype=np.intp),
        similarity=np.array([one.similarity for one in scores], dtype=float),
        precision=np.array([one.precision for one in scores], dtype=float),
    )
