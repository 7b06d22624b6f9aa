"""The verb `export-data`: a run's training set in somebody else's format, and to the hub."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.store.artifacts import StageDir

_FORMATS = ("llamaduo", "messages", "openai")
_HELP = "write a run's training set for others: LlamaDuo's schema, HF messages, OpenAI fine-tuning"


def register(verbs: Any) -> None:
    """Add `export-data` to the verbs."""
    sub = verbs.add_parser("export-data", help=_HELP, description=_HELP)
    sub.set_defaults(verb=_export)
    sub.add_argument("run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)")
    sub.add_argument("--format", choices=_FORMATS, default="messages", help="default: %(default)s")
    sub.add_argument("--round", type=int, metavar="N", help="default: the last")
    sub.add_argument("--out", metavar="DIR", required=True, help="made if it is not there")
    sub.add_argument("--force", action="store_true", help="even if there is something in DIR")
    sub.add_argument("--push", metavar="OWNER/NAME", help="also to this data set on the hub")
    sub.add_argument("--public", action="store_true", help="make it public; default: private")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")


def _export(arguments: argparse.Namespace) -> None:
    from understudy.config.compose import runs_root
    from understudy.data import publish
    from understudy.pipeline.record import find_run

    out = Path(arguments.out)
    if out.exists() and not arguments.force and (out.is_file() or any(out.iterdir())):
        raise BadInput(f"--out {out} is not empty; give another directory, or --force")
    if arguments.push:
        publish.check_hub(arguments.push)
    run_json = find_run(runs_root(arguments.root), arguments.run)
    counts = _write(_subset(run_json, arguments.round), arguments)
    words = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{arguments.out}: {words} rows as {arguments.format}, and a card")
    if arguments.push:
        print(publish.push(out, counts, arguments.push, not arguments.public))


def _subset(run_json: Path, number: int | None) -> "StageDir":
    """The training set of a round."""
    from understudy.pipeline.record import RunRecord

    run = RunRecord.read(run_json)
    found = {
        step.round: run.stage(step.stages["subset"])
        for step in run.rounds
        if "subset" in step.stages
    }
    done = {number: stage for number, stage in found.items() if stage.is_done}
    if number is None and done:
        number = max(done)
    if number not in done:
        rounds = ", ".join(map(str, done)) or "no round yet"
        what = "a training set" if number is None else f"a training set of round {number}"
        raise BadInput(f"run {run.name} has not {what}; it has one of {rounds}")
    return done[number]


def _write(subset: "StageDir", arguments: argparse.Namespace) -> dict[str, int]:
    from understudy import config
    from understudy.data import publish
    from understudy.records import Coverage, read_rows
    from understudy.synthesis import calls

    composed = config.build(subset.read("config.json")["config"])
    inputs = subset.read("inputs.json")["inputs"]
    root = subset.path.parents[1]
    blocks = [root / path for role, path in inputs.items() if role.startswith("block.")]
    pool = calls.rows_by_id(blocks)
    rows = [pool.get(row.id, row) for row in read_rows(subset.out / "rows.jsonl", Coverage)]
    prompts = {}
    if arguments.format == "llamaduo":
        prompts = calls.prompts(blocks, {row.id for row in rows})
    task = composed.task
    category = composed.coverage.categories.get(task.name, task.topic)
    convert = publish.converter(arguments.format, category, prompts)
    split = read_rows(root / inputs["split"] / "out" / "rows.jsonl", Coverage)
    validation = [row for row in split if row.split == "validation"]
    files = {"train": map(convert, rows), "validation": map(convert, validation)}
    card = (subset.out / "README.md").read_text(encoding="utf-8")
    return publish.write(Path(arguments.out), card, files)
