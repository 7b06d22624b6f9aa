"""From runs and published files to evaluations.

A source is a run or a sweep (its name, folder or record), a file in the schema that llama-duo
published, or `hub:OWNER/NAME`; `TASK=SOURCE` says which task a published file is about where its
names do not. Their names say the rest: `llama-duo/gemma7b-summarize-gpt4o-16k` is Gemma 7B on
summarization, trained on 16k rows that GPT-4o wrote. A set whose generators are of the owner
`rehearsal` is made up, and every table and figure says so.
"""

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from understudy.config import InferenceConfig
from understudy.config.base import base
from understudy.data import answers
from understudy.data.sources import check_hub
from understudy.errors import BadInput
from understudy.pipeline.record import RunRecord, find_run, run_files
from understudy.records import Answer, Coverage, read_rows
from understudy.store.artifacts import StageDir

from . import frame, labels, setups
from .evaluations import Codes, Data, Evaluation, System, log_ratio, ordered

_BLOCK = 1 << 25  # bytes that the reader takes at once; no row is longer
_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_HUB = "hub:"
_TEACHERS = [alias for name in labels.SERVICES.values() for alias in name.aliases]
_GENERATOR = re.compile(
    rf"(?P<model>.+?)[-_](?P<task>[a-z]+)[-_](?P<teacher>{'|'.join(map(re.escape, _TEACHERS))})"
    r"[-_](?P<size>\d+)k"
)
_REHEARSAL_OWNER = "rehearsal"
_UNKNOWN = "unknown"


def load(sources: Sequence[str], root: Path, only: Sequence[str] = ()) -> Data:
    """Read all sources; runs are looked for below `root`. BadInput where none is evaluated.

    `only` chooses among what they differ in, as KEY=VALUE.
    """
    evaluations: list[Evaluation] = []
    known: dict[Path, System] = {}  # equal stages of several runs are one system
    seen: set[Path] = set()
    found: list[RunRecord] = []
    for source in sources:
        if _is_published(source):
            evaluations += of_set(source)
        else:
            for run in _find(root, source):
                if not any(run.name == old.name for old in found):
                    found.append(run)
                    evaluations += of_run(run, known, seen)
    if not evaluations:
        raise BadInput(f"nothing in {', '.join(sources) or 'no source'} has been evaluated yet")
    kinds = {one.system.is_rehearsal for one in evaluations}
    if len(kinds) > 1:
        raise BadInput("some of these are rehearsals and some are not; they never share a table")
    return gathered(setups.choose(setups.named(evaluations), only), found)


def gathered(evaluations: Sequence[Evaluation], runs: list[RunRecord]) -> Data:
    """What was found, with what tells it apart, in the order of tables."""
    return Data(ordered(setups.named(evaluations)), runs)


def _find(root: Path, source: str) -> list[RunRecord]:
    """The run of a name or path, those of a sweep, or all whose name matches a pattern."""
    if any(sign in source for sign in "*?["):
        paths = [path for path in run_files(root) if path.parent.match(source)]
        if not paths:
            raise BadInput(f"no run below {root} matches {source!r}")
    else:
        cells = _cells(root, source)
        paths = [find_run(root, source)] if cells is None else cells
    return [RunRecord.read(path) for path in paths]


def _cells(root: Path, source: str) -> list[Path] | None:
    """The run.json of the cells that have begun; None where no sweep has this name."""
    if find_spec("understudy.sweep") is None:  # an annex can be taken away
        return None
    from understudy.sweep.record import SweepRecord, find_sweep

    found = find_sweep(root, source)
    return None if found is None else SweepRecord.read(found).begun


def of_run(run: RunRecord, known: dict[Path, System], seen: set[Path]) -> list[Evaluation]:
    """One per finished evaluation that is not in `seen`; answers in `known` are read once."""
    done = {stage.directory.path: stage for stage in frame.finished(run)}
    found = []
    for path, stage in done.items():
        if stage.kind != "evaluation" or path in seen:
            continue
        inputs = stage.directory.read("inputs.json")["inputs"]
        answers, split = (run.root / inputs[name] for name in ("answers", "split"))
        if answers not in known:
            known[answers] = _run_system(run, stage, answers, split, list(done.values()))
        seen.add(path)
        found.append(_run_evaluation(stage, known[answers]))
    return found


def _run_system(
    run: RunRecord, stage: frame.Planned, answers: Path, split: Path, done: list[frame.Planned]
) -> System:
    rows = list(read_rows(answers / "out" / "rows.jsonl", Answer))
    wanted = {row.id: row for row in read_rows(split / "out" / "rows.jsonl", Coverage)}
    if run.is_ready_made:
        made_by = origin(rows[0].generator, rows[0].family)
    else:
        here = {other.kind: other.directory for other in done if other.round == stage.round}
        made_by = _run_origin(run.config, stage, here, rows[0])
    return System(
        **made_by,
        task=labels.canonical(run.config["task"]["name"]),
        run=run.name,
        is_rehearsal=run.rehearsal,
        prompt=np.array([row.prompt_id for row in rows]),
        cluster=np.array([row.group_id for row in rows]),
        k=np.array([row.k for row in rows], dtype=np.intp),
        length=log_ratio(
            [row.said for row in rows], [wanted[row.prompt_id].response for row in rows]
        ),
        leaves=setups.upstream(StageDir(answers), run.root),
        typed=setups.typed(run),
    )


def _run_origin(
    config: dict[str, Any], stage: frame.Planned, here: dict[str, StageDir], answer: Answer
) -> dict[str, Any]:
    """What a system of ours is and learned from; `here` has the stages of its round by kind."""
    is_local = stage.round is not None
    size = float(stage.data_size) if is_local and stage.data_size is not None else float("nan")
    service = config["synthesis"].get("service") or {}
    is_taught = is_local and size > 0 and config["trainer"]["kind"] != "none"
    is_trained = is_local and "finetune" in here
    steps = here["finetune"].read("out/summary.json").get("steps") if is_trained else None
    return {
        "role": "local" if is_local else "baseline",
        "model": labels.canonical(answer.generator),
        "family": answer.family,
        "teacher": labels.canonical(service["name"]) if is_taught and service else None,
        "teacher_family": service.get("family") if is_taught else None,
        "data_size": size,
        "trainer": config["trainer"]["kind"] if is_local else None,
        "seed": config["seed"] if is_local else None,
        "steps": float("nan") if steps is None else float(steps),
        "contamination": frame.contamination(here.get("subset") if is_local else None),
    }


def _run_evaluation(stage: frame.Planned, system: System) -> Evaluation:
    summary: dict[str, Any] = stage.directory.read("out/summary.json")
    columns = _columns(stage.directory.out / "rows.jsonl")
    # A key is looked up in the sorted keys of the answers: no dictionary of a million tuples.
    prompts, codes = np.unique(system.prompt, return_inverse=True)
    width = int(system.k.max(initial=0)) + 1
    keys = codes * width + system.k
    order = np.argsort(keys)
    asked, places = columns["prompt_id"]
    place = np.searchsorted(prompts, asked)[places]
    answer: Codes = order[np.searchsorted(keys[order], place * width + columns["k"])]
    repeat = np.nan_to_num(columns["m"], nan=0).astype(np.intp)
    return Evaluation(
        system=system,
        judge=labels.canonical(frame.judge_of(stage, summary)),
        judge_family=summary["judge_family"],
        prompt_variant=summary["prompt_variant"],
        order=summary["order"],
        answer=answer,
        repeat=repeat,
        similarity=columns["similarity"],
        precision=columns["precision"],
        leaves=setups.leaves_of(stage.directory),
    )


def _columns(path: Path) -> dict[str, Any]:
    """The numbers of a verdict file; reasons are skipped unread. `prompt_id`: (names, codes)."""
    import pyarrow
    from pyarrow import json as reader

    text = pyarrow.string()
    real = pyarrow.float64()
    schema = pyarrow.schema(
        [
            *(("prompt_id", text), ("k", pyarrow.int64()), ("m", real)),
            *(("similarity", real), ("precision", real)),
        ]
    )
    table = reader.read_json(
        path,
        reader.ReadOptions(block_size=_BLOCK),
        reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    named = table["prompt_id"].combine_chunks().dictionary_encode()
    if isinstance(named, pyarrow.ChunkedArray):
        named = named.combine_chunks()
    names = np.array(named.dictionary.to_pylist())
    codes = named.indices.to_numpy(zero_copy_only=False)
    numbers = {name: table[name].to_numpy() for name in ("k", "m", "similarity", "precision")}
    return {"prompt_id": (names, codes), **numbers}


class Generator(NamedTuple):
    """What the name of a generator says."""

    model: str
    task: str | None
    teacher: str | None
    data_size: float


def _is_published(source: str) -> bool:
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


def of_set(source: str) -> list[Evaluation]:
    """One per generator and evaluator of the set."""
    given, _, place = source.rpartition("=")
    # The entrance of ready-made answers is reused; how to sample says nothing there.
    nothing = {"k": 1, "temperature": 0.0, "max_new_tokens": 1, "batch_size": 1}
    options: dict[str, Any] = base("_base")["inference"] | nothing
    if place.startswith(_HUB):
        config = InferenceConfig(**options | {"kind": "hub", "repo": place.removeprefix(_HUB)})
        check_hub(config)
    else:
        if not Path(place).expanduser().is_file():
            raise BadInput(f"{place} does not exist; a source is a run, a file or {_HUB}OWNER/NAME")
        config = InferenceConfig(**options | {"kind": "file", "path": place})
    ready = answers.load(config, "unknown")
    if not ready.scores:
        raise BadInput(f"{place} has no evaluators column, so nobody has judged its answers")
    task = _task(given, place, list(ready.answers))
    wanted = {row.id: row.response for row in ready.prompts}
    systems = {
        name: _set_system(name, task, rows, wanted, Path(place).name)
        for name, rows in ready.answers.items()
    }
    return [
        _set_evaluation(systems[name], judge, scores)
        for (name, judge), scores in ready.scores.items()
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


def _set_system(
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


def _set_evaluation(system: System, judge: str, scores: list[answers.Score]) -> Evaluation:
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
