"""From the record of a run and finished stages to data frames; whatever is missing is NaN."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from understudy.pipeline.flow import TRAINING
from understudy.pipeline.record import RunRecord
from understudy.records import Coverage, read_rows, written
from understudy.store.artifacts import StageDir

_SCORES = ("mean", "low", "high", "coverage@50", "coverage@70")
_NUMBERS = [
    *("round", "data_size", "m", "k", "n_prompts", "n_groups", "n_answers", "n_verdicts"),
    *("n_unscored", "n_missing_answers"),
    *(f"{metric}.{name}" for metric in ("similarity", "precision") for name in _SCORES),
    *("rule.n", "rule.passed", "rule.rate", "rule.low", "rule.high"),
    *(
        f"service_ratio.{metric}.{name}"
        for metric in ("similarity", "precision")
        for name in ("value", "low", "high")
    ),
]
_WORDS = [
    *("run", "task", "trainer", "role", "judge", "generator", "prompt_variant", "interval"),
    *("contaminated", "training_rows", "contamination_missing"),
]
_CALLS = ("calls", "microusd", "input_tokens", "output_tokens")  # of meta.json
FROM_FILE = " (file)"  # as flow.py ends the role of such an evaluation


class Planned(NamedTuple):
    """One stage of a run, finished or not."""

    round: int | None
    data_size: int | None
    name: str
    directory: StageDir

    @property
    def kind(self) -> str:
        """Which stage it is, whatever its role in the run is called."""
        return self.directory.path.parent.name


class Contamination(NamedTuple):
    """How many training rows repeat a held-out row, as the subset stage counted them."""

    contaminated: int | None = None
    training_rows: int | None = None
    contamination_missing: str = "training rows unknown"  # why there is no count


UNCOUNTED = Contamination()


def planned(run: RunRecord) -> Iterator[Planned]:
    """Every stage that the run has named so far, in its order."""
    for name, path in run.stages.items():
        yield Planned(None, None, name, run.stage(path))
    for step in run.rounds:
        for name, path in step.stages.items():
            yield Planned(step.round, step.data_size, name, run.stage(path))


def finished(run: RunRecord) -> Iterator[Planned]:
    """The stages that are done; nothing else is ever read.

    A probe's are about train rows: they aim synthesis and are no result. Nor is what a training
    needs before it: its SFT, sampled answers and their verdicts.
    """
    return (
        stage
        for stage in planned(run)
        if stage.directory.is_done and not stage.name.startswith(("probe.", TRAINING))
    )


def stages_frame(run: RunRecord) -> pd.DataFrame:
    """One row per stage: round, name, fingerprint, state and wall time."""
    rows = []
    for stage in planned(run):
        is_done = stage.directory.is_done
        rows.append(
            {
                "round": stage.round,
                "name": stage.name,
                "stage": stage.kind,
                "fingerprint": stage.directory.path.name,
                "is_done": is_done,
                "seconds": meta(stage.directory).get("seconds") if is_done else None,
            }
        )
    columns = ["round", "name", "stage", "fingerprint", "is_done", "seconds"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"round": float, "seconds": float, "is_done": bool})


def meta(directory: StageDir) -> dict[str, Any]:
    """How a stage was made; empty when that was not recorded."""
    if not (directory.path / "meta.json").is_file():
        return {}
    values: dict[str, Any] = directory.read("meta.json")
    return values


def scores_frame(run: RunRecord) -> pd.DataFrame:
    """One row per judge and answers: the evaluations' summaries, and the gates' ratios.

    A gate's summary calls the ratio to the service `p_match`; the paper's P-Match is another.
    """
    done = list(finished(run))
    matches = {
        (stage.round, row["judge"]): row["p_match"]
        for stage in done
        if stage.kind == "gate"
        for row in stage.directory.read("out/summary.json")["table"]
        if row["role"] == "local"
    }
    unknown = UNCOUNTED if run.is_ready_made else None
    subsets = {stage.round: stage.directory for stage in done if stage.kind == "subset"}
    rows = []
    for stage in done:
        if stage.kind != "evaluation":
            continue
        summary = stage.directory.read("out/summary.json")
        judge = judge_of(stage, summary)
        rows.append(
            {
                **summary,
                "judge": judge,
                "run": run.name,
                "task": run.config["task"]["name"],
                "trainer": run.config["trainer"]["kind"],
                "role": "baseline" if stage.round is None else "local",
                "round": stage.round,
                "data_size": stage.data_size,
                "service_ratio": matches.get((stage.round, judge)),
                **(unknown or contamination(subsets.get(stage.round)))._asdict(),
            }
        )
    frame = pd.json_normalize(rows).reindex(columns=[*_WORDS, *_NUMBERS])
    return frame.astype(dict.fromkeys(_NUMBERS, float))


def judge_of(stage: Planned, summary: dict[str, Any]) -> str:
    """The judge; a ready-made file may hold verdicts of one that the run asks again."""
    name: str = summary["judge"]
    return f"{name}{FROM_FILE}" if stage.name.endswith(FROM_FILE) else name


def contamination(subset: StageDir | None) -> Contamination:
    """The count of a training set; missing where there is none, or none was counted then."""
    if subset is None:
        return Contamination(contamination_missing="not trained")
    file = subset.out / "summary.json"
    counts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "contaminated" not in counts:
        return Contamination(contamination_missing="not counted")
    return Contamination(counts["contaminated"], counts["rows"], "")


def training_frame(run: RunRecord) -> pd.DataFrame:
    """The loss curves: one row per recorded step of every finished fine-tuning."""
    rows = []
    for stage in finished(run):
        curve = stage.directory.out / "curve.jsonl"
        if stage.kind == "finetune" and curve.is_file():
            best = stage.directory.read("out/summary.json").get("best_step")
            for line in curve.read_text(encoding="utf-8").splitlines():
                place = {"round": stage.round, "data_size": stage.data_size, "best_step": best}
                rows.append({**json.loads(line), **place})
    columns = ["round", "data_size", "step", "train_loss", "validation_loss", "best_step"]
    return pd.DataFrame(rows).reindex(columns=columns).astype(float)


def references(run: RunRecord) -> tuple[list[str], list[str] | None]:
    """The wanted answers of the test rows, and those of the last round's training rows."""
    test: list[str] = []
    train: list[str] | None = None
    for stage in finished(run):
        if stage.kind == "split":
            rows = read_rows(stage.directory.out / "rows.jsonl", Coverage)
            test = [row.response for row in rows if row.split == "test"]
        elif stage.kind == "subset":  # human and synthetic rows, whose schemas differ
            lines = (stage.directory.out / "rows.jsonl").read_text(encoding="utf-8").splitlines()
            train = [written(json.loads(line)["messages"][-1]) for line in lines]
    return test, train


def ledger(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Return what the stages of some runs took: calls, money, tokens and time.

    A stage that several runs share was paid once, and is one row. The offline stand-ins cost
    nothing and record no calls; then money and tokens are missing here, not 0.
    """
    columns = ["run", "stage", "fingerprint", "round", "seconds", "rows", *_CALLS]
    rows: dict[Path, dict[str, Any]] = {}
    for run in runs:
        for stage in finished(run):
            made = meta(stage.directory)
            rows.setdefault(
                stage.directory.path,
                {
                    "run": run.name,
                    "stage": stage.kind,
                    "fingerprint": stage.directory.path.name,
                    "round": stage.round,
                    "seconds": made.get("seconds"),
                    "rows": _accepted(stage),
                    **{name: made.get("calls", {}).get(name) for name in _CALLS},
                },
            )
    table = pd.DataFrame(list(rows.values()), columns=columns)
    numbers = ["round", "seconds", "rows", *_CALLS]
    return table.astype(dict.fromkeys(numbers, float))


def _accepted(stage: Planned) -> float | None:
    """Return how many rows a synthesis stage accepted."""
    if stage.kind != "synthesis":
        return None
    rows: float | None = stage.directory.read("out/summary.json").get("rows")
    return rows


def usd_per_row(table: pd.DataFrame) -> float:
    """Return what an accepted synthetic row cost; NaN where no call was paid for."""
    made = table[(table["stage"] == "synthesis") & table["microusd"].notna()]
    rows = made["rows"].sum()
    return float(made["microusd"].sum() / 1e6 / rows) if rows else float("nan")


def tokens_per_call(table: pd.DataFrame, kind: str) -> tuple[float, float]:
    """Return mean input and output tokens of a call of a stage; NaN where not recorded."""
    made = table[(table["stage"] == kind) & table["input_tokens"].notna()]
    calls = made["calls"].sum()
    if not calls:
        return float("nan"), float("nan")
    return float(made["input_tokens"].sum() / calls), float(made["output_tokens"].sum() / calls)


def spent_usd(table: pd.DataFrame) -> float:
    """Return what all stages cost; NaN where none paid."""
    return float(table["microusd"].sum(min_count=1) / 1e6)
