"""The model card of an export: what it was made of, what it scored, and what it may be used for."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from understudy.config.command_line import without_places
from understudy.config.export import ExportConfig
from understudy.data.shots import FILE, Shots
from understudy.export.parity import Report
from understudy.models import gguf
from understudy.pipeline.chosen import Chosen
from understudy.records import Coverage, dumps, read_rows
from understudy.store.artifacts import StageDir

_LIBRARY = {"merged": "transformers", "adapter": "peft", "gguf": "gguf"}


def card(chosen: Chosen, settings: ExportConfig, report: Report) -> str:
    """Markdown as the hub reads it."""
    config = chosen.config
    licence, task = config.model.licence.lower(), config.task.name
    front: dict[str, Any] = {
        "license": licence if re.fullmatch(r"[a-z0-9.-]+", licence) else "other",
        "library_name": _LIBRARY[settings.what],
        "pipeline_tag": "text-generation",
        "tags": ["understudy", task],
    }
    if config.model.repo is not None:
        front |= {"base_model": config.model.repo}
    word, reason = chosen.decision
    reason = reason.replace(chosen.run.command, without_places(chosen.run.command))
    parts = [
        ["---", *(f"{key}: {dumps(value)}" for key, value in front.items()), "---", ""],
        [f"# {config.model.name} for {task} ({settings.what})", ""],
        _rehearsal(chosen),
        [f"**{word}**: {reason}", ""],
        _base(chosen),
        _scores(chosen),
        _data(chosen),
        _costs(chosen),
        _parity(settings, report),
        _use(chosen, report),
        _limits(chosen),
    ]
    return "\n".join(line for part in parts for line in part)


def _rehearsal(chosen: Chosen) -> list[str]:
    if not chosen.run.rehearsal:
        return []
    return ["**A rehearsal: stand-ins taught and judged; no number here is about an LLM.**", ""]


def _base(chosen: Chosen) -> list[str]:
    model, trainer = chosen.config.model, chosen.config.trainer
    recipe = f"{trainer.kind}, learning rate {trainer.lr:g}, batch of {trainer.batch_size}"
    found = chosen.summary("finetune") or {}
    steps = f", {found['shipped_step']} steps" if "shipped_step" in found else ""
    how = "not fine-tuned" if trainer.kind == "none" else f"fine-tuned ({recipe}{steps})"
    name, number = chosen.run.name, chosen.step.round
    return [
        f"Base model: {model.name} ({_origin(chosen)}), {how}, with seed {chosen.config.seed}.",
        f"Made by understudy {chosen.run.understudy}, run {name}, round {number}:",
        f"`{without_places(chosen.run.command)}`",
        "",
    ]


def _origin(chosen: Chosen) -> str:
    """Where the base model is from, as it means the same everywhere; files by their digest."""
    model = chosen.config.model
    if model.path is None:
        return f"{model.repo}@{model.revision}"
    stage = chosen.stage("finetune" if chosen.finetuned else "inference")
    digest = stage.read("config.json")["hashed"].get("files", {}).get("model")
    if model.path.startswith("package:"):
        where = "of understudy's own package"
    else:
        where = gguf.named(model) if gguf.is_meant(model) else "a local directory"
    parts = [model.repo, where, digest and f"sha256 {digest}"]
    return ", ".join(part for part in parts if part)


def _scores(chosen: Chosen) -> list[str]:
    gate = chosen.summary("gate")
    if gate is None:
        return ["## Scores", "", "None: this round was not judged to its end.", ""]
    lines = ["## Scores on the test split", ""]
    lines += ["| answers | judge | score | mean [95 %] | prompts | clusters | unscored |"]
    lines += [_rule(7)]
    for row in gate["table"]:
        who = f"service ({row['generator']})" if row["role"] == "baseline" else "this model"
        for metric in row.get("measures", ("similarity", "precision")):
            said = _interval(row[metric])
            held = row["n_prompts"], row.get("n_groups") or "", row["n_unscored"]
            lines.append(_row((who, row["judge"], metric, said, *held)))
    return [*lines, "", f"Gate ({gate['kind']}): {gate['decision']}. {gate['reason']}", ""]


def _data(chosen: Chosen) -> list[str]:
    subset, config = chosen.summary("subset"), chosen.config
    if subset is None:
        return []
    rows = list(read_rows(chosen.stage("subset").out / "rows.jsonl", Coverage))
    share = subset["synthetic"] / subset["rows"] if subset["rows"] else 0.0
    teacher = config.synthesis.service
    terms = (teacher.terms or "not given") if teacher else "not known"
    who = teacher.name if teacher else config.synthesis.repo or "a file"
    lines = ["## Data", "", "| rows | from | terms on training with its output |", _rule(3)]
    lines.append(_row((subset["human"], "the coverage data", "see the licences")))
    if subset["synthetic"]:
        lines.append(_row((f"{subset['synthetic']} ({share:.0%})", who, terms)))
    lines += ["", "| rows | licence |", _rule(2)]
    licences = Counter(row.licence or "not given" for row in rows)
    lines += [_row((count, licence)) for licence, count in sorted(licences.items())]
    held = Counter(row.split for row in read_rows(chosen.split, Coverage) if row.split != "train")
    counts = ", ".join(f"{count} {split}" for split, count in sorted(held.items(), key=str))
    lines += ["", f"Held out: {counts} rows; {subset['contaminated']} training rows repeat one."]
    return [*lines, ""]


def _costs(chosen: Chosen) -> list[str]:
    """What the services took in all rounds, by stage, and the training of this one."""
    usd: dict[str, float] = {}
    for path in chosen.run.stage_paths:
        calls = _meta(chosen.run.stage(path)).get("calls") or {}
        if "microusd" in calls:
            kind = path.partition("/")[0]
            usd[kind] = usd.get(kind, 0.0) + calls["microusd"] / 1e6
    paid = ", ".join(f"{kind} ${amount:.4f}" for kind, amount in sorted(usd.items()))
    lines = ["## Costs", "", f"Calls of services: {paid or 'none was paid for'}."]
    if "finetune" in chosen.step.stages:
        meta = _meta(chosen.stage("finetune"))
        if "seconds" in meta:
            lines.append(
                f"Training: {meta['seconds']:.0f} s in {meta.get('processes', 1)} process(es) "
                f"({meta.get('accelerate', 'single')})."
            )
    return [*lines, ""]


def _parity(settings: ExportConfig, report: Report) -> list[str]:
    what, beside = "this one", ""
    if settings.what == "gguf":
        what = "the merge this file was converted from"
        beside = " Rows of llama.cpp are of the file itself."
        if "llama.cpp" in report.unmeasured:
            beside = " The GGUF file itself was not run."
    lines = ["## Parity", ""]
    lines += [f"The judged model and {what} were given the same test prompts.{beside}", ""]
    lines += ["| compared | measured |", _rule(2)]
    for what, found in report.measured.items():
        said = "; ".join(f"{key} {_plain(value)}" for key, value in dict(found).items())
        lines.append(_row((what, said)))
    lines += [_row((what, f"not checked: {why}")) for what, why in report.unmeasured.items()]
    return [*lines, ""]


def _use(chosen: Chosen, report: Report) -> list[str]:
    config = chosen.config
    ids = report.measured.get("stops", {}).get("ids", [])
    stops = [repr(text) for text in config.model.stop] or [f"token {number}" for number in ids]
    sampling = config.inference
    return [
        "## Use",
        "",
        f"Answers were judged at temperature {sampling.temperature:g} with at most "
        f"{sampling.max_new_tokens} new tokens, in the chat template that comes with the model; "
        f"they end at {' or '.join(stops)}. Prompt and answer fit into {config.model.context} "
        "tokens.",
        "",
    ]


def _limits(chosen: Chosen) -> list[str]:
    config = chosen.config
    lines = [
        f"Trained and judged for {config.task.name} ({config.task.topic}) alone; nothing else was "
        "measured.",
        "The scores are those of the judges above, not of people.",
        "Intervals are over prompts, for these weights: one training, one seed.",
    ]
    if "baseline" not in chosen.run.stages:
        lines.append("No service was compared with.")
    if (first := Shots.read(chosen.stage("inference").out)) is not None:
        lines.append(
            f"{FILE} holds {len(first.examples)} train rows and the system prompt, if any, "
            "that are shown before prompts: look whether others may read them. `understudy "
            "serve` shows them; of another server, the client must."
        )
    lines += chosen.warnings
    lines.append(
        f"The licence of the base model ({config.model.licence}), those of the rows, and the terms "
        "of the service that wrote rows hold side by side."
    )
    return ["## Limits", "", *(f"- {line}" for line in lines), ""]


def _meta(stage: StageDir) -> dict[str, Any]:
    path = stage.path / "meta.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _interval(score: Mapping[str, Any] | None) -> str:
    if not score or score["mean"] is None:
        return "–"
    if score["low"] is None:
        return f"{score['mean']:.1f} [no interval]"
    return f"{score['mean']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
