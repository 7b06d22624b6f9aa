"""Evaluations of our own runs, from their finished stages alone."""

from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import BadInput
from understudy.pipeline.record import RunRecord, find_run, run_files
from understudy.records import Answer, Coverage, read_rows
from understudy.store.artifacts import StageDir

from . import frame, labels, published
from .evaluations import Codes, Evaluation, System, log_ratio

_BLOCK = 1 << 25  # bytes that the reader takes at once; no row is longer


def find(root: Path, source: str) -> list[RunRecord]:
    """The run of a name or path, or all runs whose name matches a pattern."""
    if any(sign in source for sign in "*?["):
        paths = [path for path in run_files(root) if path.parent.match(source)]
        if not paths:
            raise BadInput(f"no run below {root} matches {source!r}")
    else:
        paths = [find_run(root, source)]
    return [RunRecord.read(path) for path in paths]


def evaluations(run: RunRecord, known: dict[Path, System], seen: set[Path]) -> list[Evaluation]:
    """One per finished evaluation that is not in `seen`; answers in `known` are read once."""
    done = {stage.directory.path: stage for stage in frame.finished(run)}
    found = []
    for path, stage in done.items():
        if stage.kind != "evaluation" or path in seen:
            continue
        inputs = stage.directory.read("inputs.json")["inputs"]
        answers, split = (run.root / inputs[name] for name in ("answers", "split"))
        if answers not in known:
            known[answers] = _system(run, stage, answers, split, list(done.values()))
        seen.add(path)
        found.append(_evaluation(stage, known[answers]))
    return found


def _system(
    run: RunRecord, stage: frame.Planned, answers: Path, split: Path, done: list[frame.Planned]
) -> System:
    rows = list(read_rows(answers / "out" / "rows.jsonl", Answer))
    wanted = {row.id: row for row in read_rows(split / "out" / "rows.jsonl", Coverage)}
    if run.is_ready_made:
        origin = published.origin(rows[0].generator, rows[0].family)
    else:
        here = {other.kind: other.directory for other in done if other.round == stage.round}
        origin = _origin(run.config, stage, here, rows[0])
    return System(
        **origin,
        task=labels.canonical(run.config["task"]["name"]),
        run=run.name,
        is_rehearsal=run.rehearsal,
        prompt=np.array([row.prompt_id for row in rows]),
        cluster=np.array([row.group_id for row in rows]),
        k=np.array([row.k for row in rows], dtype=np.intp),
        length=log_ratio(
            [row.text for row in rows], [wanted[row.prompt_id].response for row in rows]
        ),
    )


def _origin(
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


def _evaluation(stage: frame.Planned, system: System) -> Evaluation:
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
