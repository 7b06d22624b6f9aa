"""Finished blocks looked at again: their rows, and what the teacher was asked for each."""

from collections.abc import Collection, Sequence
from pathlib import Path

from understudy import config
from understudy.records import Coverage, Synthetic, read_rows
from understudy.store.artifacts import Job, StageDir
from understudy.synthesis.calls import Calls


def rows_by_id(blocks: Sequence[Path]) -> dict[str, Synthetic]:
    """The rows of these stage directories."""
    files = [block / "out" / "rows.jsonl" for block in blocks]
    return {row.id: row for file in files for row in read_rows(file, Synthetic)}


def prompts(blocks: Sequence[Path], ids: Collection[str]) -> dict[str, str]:
    """By row id the rendered prompt; a ready-made set's is not known."""
    found = {}
    for block in blocks:
        if StageDir(block).read("config.json")["hashed"]["stage"] == "synthesis":
            calls = _calls(block)
            for row in read_rows(block / "out" / "rows.jsonl", Synthetic):
                if row.id in ids:
                    found[row.id] = calls.request(row.call_id).messages[-1]["content"]
    return found


def _calls(block: Path) -> Calls:
    stage, root = StageDir(block), block.parents[1]
    frozen = stage.read("config.json")
    above = stage.read("inputs.json")["inputs"]
    inputs = {role: root / path / "out" for role, path in above.items()}
    job = Job(
        config.build(frozen["config"]), frozen["hashed"]["params"], inputs, stage.out, stage.out
    )
    train = [row for row in job.rows("split", Coverage) if row.split == "train"]
    earlier = [job.rows(role, Synthetic) for role in inputs if role.startswith("block.")]
    return Calls(job, train, earlier)
