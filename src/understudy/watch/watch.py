"""One look of a watch: sample, judge, decide; then the page, the metrics and the next coverage.

Below watch/RUN:
judged.jsonl     a row per judged answer, with its texts, in the order of judging
state.json       since when it watches, its last word and what that rests on
report.html      for people; metrics.prom, for the textfile collector of Prometheus' node exporter
next_coverage.jsonl  prompts that did badly, with the service's answers: the next run's
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from understudy.config import Config
from understudy.errors import BadInput
from understudy.pipeline import deciding
from understudy.pipeline.measured import answers_of
from understudy.pipeline.record import RunRecord
from understudy.records import Answer, Coverage, dumps, read_rows
from understudy.services.account import Account
from understudy.store.artifacts import write_atomically
from understudy.watch import traffic
from understudy.watch.drift import Drift, drifts
from understudy.watch.judging import Judging, WatchVerdict
from understudy.watch.sequence import Watched, watched
from understudy.watch.traffic import Traffic, WatchedAnswer

JUDGED, STATE, COVERAGE = "judged.jsonl", "state.json", "next_coverage.jsonl"
_MOST = 100.0


class Floor(NamedTuple):
    """What is watched: a mean on a scale of points, and the floor below which it must not fall."""

    what: str
    least: float  # of the scale
    floor: float
    most: float = _MOST

    def scaled(self, points: float) -> float:
        """From 0 to 1."""
        return (points - self.least) / (self.most - self.least)

    def points(self, scaled: float) -> float:
        """Back in points."""
        return self.least + scaled * (self.most - self.least)


@dataclass(frozen=True)
class WatchLook:
    """What one look found."""

    run: str
    promise: Floor
    found: Watched
    rows: list[dict[str, Any]]
    sampled: int
    skipped: Mapping[str, int]
    drift: list[Drift]
    spent_usd: float
    since: str | None
    is_rehearsal: bool
    alpha: float

    @property
    def unscored(self) -> int:
        """Judged answers without a score."""
        return sum(row["score"] is None for row in self.rows)

    @property
    def bad(self) -> list[dict[str, Any]]:
        """Since the fall: rows below the floor whose reference is known."""
        if self.found.since is None:
            return []
        scored = [row for row in self.rows if row["score"] is not None]
        return [
            row
            for row in scored[self.found.since :]
            if row["score"] < self.promise.floor and row["reference"]
        ]


def floor_of(run: RunRecord, config: Config) -> Floor:
    """Return the floor that the migration's margin sets; BadInput where no level is known."""
    margin = config.gate.margin
    if config.watch.compare == "service":
        return Floor("local - service", -_MOST, -margin)
    level = config.watch.level
    if level is None:
        sides = deciding.judged(run, None)
        means = [
            run.stage(sides.stages[f"baseline.{judge}"]).read("out/summary.json")["precision"][
                "mean"
            ]
            for judge in sides.judges
        ]
        level = fmean(means)
    return Floor(f"local model; {level:.1f} was the service's", 0.0, max(level - margin, 0.0))


def look(run: RunRecord, config: Config, folder: Path, source: Path, is_gateway: bool) -> WatchLook:
    """Judge what the budget allows and say how things stand; everything is written to `folder`."""
    promise = floor_of(run, config)
    state = _state(folder)
    since = state.get("since") or _since(config, source, is_gateway)
    sample = (
        traffic.of_gateway(source, config.watch.share, _seconds(since))
        if is_gateway
        else traffic.of_file(source, config, config.watch.share)
    )
    rows = [json.loads(line) for line in _text(folder / JUDGED).splitlines()]
    account = Account(
        journal=run.root / "journal",
        stage=f"watch/{run.name}",
        purse=f"watch/{run.name}",
        budget_usd=config.watch.usd,
        rehearsal_url=config.rehearsal.url,
    )
    found = _watched(rows, promise, config.watch.alpha)
    split = list(read_rows(run.stage(run.stages["split"]).out / "rows.jsonl", Coverage))
    if found.word != "ALARM":
        for some in _judged(config, split, sample, rows, account):
            new = [_row(one, config.watch.compare == "service") for one in some]
            _append(folder / JUDGED, new)
            rows += new
            found = _watched(rows, promise, config.watch.alpha)
            if found.word == "ALARM":
                break
    made = WatchLook(
        run.name, promise, found, rows, len(sample.answers), dict(sample.skipped),
        _drift(run, split, sample.answers), account.spent / 1e6 or state.get("spent_usd", 0.0),
        since, run.rehearsal, config.watch.alpha,
    )  # fmt: skip
    write(folder / STATE, json.dumps(state | to_dict(made), indent=1) + "\n")
    if made.bad:
        write(folder / COVERAGE, "".join(f"{dumps(_coverage(row))}\n" for row in made.bad))
    return made


def restart(folder: Path) -> None:
    """Begin anew from this moment; what was judged before is kept beside."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / JUDGED, folder / STATE):
        if path.is_file():
            path.replace(folder / f"{path.stem}.{int(path.stat().st_mtime)}{path.suffix}")
    write(folder / STATE, json.dumps({"since": _iso(time.time())}) + "\n")


def acted(folder: Path, what: str | None = None) -> str | None:
    """What an alarm has made of the gateway; with `what`, write it down."""
    state = _state(folder)
    if what is not None:
        state |= {"acted": what}
        write(folder / STATE, json.dumps(state, indent=1) + "\n")
    found: str | None = state.get("acted")
    return found


def to_dict(made: WatchLook) -> dict[str, Any]:
    """As state.json holds it."""
    promise, found, path = made.promise, made.found, made.found.path
    limits = [promise.points(float(one[-1])) for one in path] if len(path.mean) else [None] * 3
    return {
        "verdict": found.word, "run": made.run, "rehearsal": made.is_rehearsal,
        "since": made.since, "what": promise.what, "floor": promise.floor,
        **dict(zip(("mean", "low", "high"), limits, strict=True)), "alpha": made.alpha,
        "worst_low": promise.points(found.worst_low), "log_evidence": found.log_evidence,
        "alarm_at": found.alarm_at, "fell_after": found.since, "judged": len(made.rows),
        "unscored": made.unscored, "sampled": made.sampled, "skipped": dict(made.skipped),
        "spent_usd": made.spent_usd, "bad": len(made.bad),
        "drift": [one._asdict() | {"is_change": one.is_change} for one in made.drift],
    }  # fmt: skip


def _judged(
    config: Config,
    split: Sequence[Coverage],
    sample: Traffic,
    rows: Sequence[Mapping[str, Any]],
    account: Account,
) -> Any:
    """Yield the answers that were not judged before, as many as may be, with their scores."""
    known = {row["group"] for row in rows}
    fresh = [one for one in sample.answers if one.group not in known]
    if config.watch.judged is not None:
        fresh = fresh[: max(config.watch.judged - len(rows), 0)]
    is_paired = config.watch.compare == "service"

    def has_verdict(one: WatchedAnswer) -> bool:
        return one.score is not None and (one.service_score is not None or not is_paired)

    if ready := [one for one in fresh if has_verdict(one)]:
        yield [WatchVerdict(o, o.reference, o.score, o.service_score, None) for o in ready]
    if open_ones := [one for one in fresh if not has_verdict(one)]:
        train = [row for row in split if row.split == "train"]
        yield from Judging(config, train, account).judge(open_ones)


def _watched(rows: Sequence[Mapping[str, Any]], promise: Floor, alpha: float) -> Watched:
    scores = [np.nan if row["score"] is None else promise.scaled(row["score"]) for row in rows]
    return watched(np.array(scores, dtype=float), promise.scaled(promise.floor), alpha)


def _row(one: WatchVerdict, is_paired: bool) -> dict[str, Any]:
    """A row of judged.jsonl; `score` is what is watched, in points."""
    score = one.score
    if is_paired:
        both = one.score is not None and one.service_score is not None
        score = (one.score or 0.0) - (one.service_score or 0.0) if both else None
    answer = one.answer
    return {
        "id": answer.id, "time": answer.time, "group": answer.group, "whose": answer.whose,
        "score": score,
        "local": one.score, "service": one.service_score, "why": one.why,
        "prompt": answer.prompt, "answer": answer.text, "reference": one.reference,
    }  # fmt: skip


def _coverage(row: Mapping[str, Any]) -> dict[str, Any]:
    turn = {"role": "assistant", "content": row["reference"]}
    group = row["whose"] or row["group"]  # what one user asks is no independent sample
    return {"id": row["id"], "group_id": group, "messages": [*row["prompt"], turn]}


def _drift(
    run: RunRecord, split: Sequence[Coverage], sample: Sequence[WatchedAnswer]
) -> list[Drift]:
    """Compare the run's prompts and its local model's answers with the sample."""
    answers: list[str] = []
    for step in reversed(run.rounds):
        if any(role.startswith("evaluation.") for role in step.stages):
            stage = answers_of(run, step.stages, "evaluation")
            rows = [] if stage is None else read_rows(stage.out / "rows.jsonl", Answer)
            answers = [row.text for row in rows]
            break
    asked = [str(one.prompt[-1]["content"] or "") for one in sample if one.prompt]
    prompts = [row.instruction for row in split]
    return drifts((prompts, asked), (answers, [one.text for one in sample]))


def _since(config: Config, source: Path, is_gateway: bool) -> str | None:
    """From when on answers count; of a file all do."""
    if not is_gateway:
        return None
    if (given := config.watch.since) is not None:
        return _iso(_seconds(given))
    control = source / "control.json"
    if not control.is_file():
        raise BadInput(
            f"{source} holds no control.json, so no gateway was started there; give --log with a "
            "gateway's folder or a file of answers"
        )
    return _iso(control.stat().st_mtime)


def _seconds(since: str | None) -> float:
    if since is None:
        return 0.0
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise BadInput(
            f"watch.since={since} is no time; give one like 2026-11-30T12:00:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _state(folder: Path) -> dict[str, Any]:
    text = _text(folder / STATE)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows in one write, on the disk when it returns; for the owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write("".join(f"{dumps(row)}\n" for row in rows))
        stream.flush()
        os.fsync(stream.fileno())


def write(path: Path, text: str) -> None:
    """Replace a file, whole or not at all; for the owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text, is_private=True)
