"""Every source format of `understudy collect`, from files made by the public descriptions."""

import json
from pathlib import Path

import pytest

from understudy.collect.collect import Summary, collect
from understudy.collect.work import CollectOptions

GOLDEN = Path(__file__).with_name("golden")
KEPT = ("group_id", "messages", "tools", "licence", "source")
SOURCES = {
    **{path.stem: [path.name] for path in sorted(GOLDEN.glob("[a-z]*.jsonl"))},
    **{"langfuse_ui": ["langfuse_ui.json"], "langfuse_csv": ["langfuse_ui.csv"]},
}
for service in ("openai", "anthropic", "gemini"):
    SOURCES[f"{service}_batch"] = [
        SOURCES.pop(f"{service}_batch_{half}")[0] for half in ("input", "output")
    ]


def collected(name: str, out: Path) -> tuple[list[dict[str, object]], Summary]:
    paths = [str(GOLDEN / part) for part in SOURCES[name]]
    summary = collect(paths, out, CollectOptions(redact=()))
    return [json.loads(line) for line in out.read_text().splitlines()], summary


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_gives_its_golden_rows_and_counts(name: str, tmp_path: Path) -> None:
    rows, summary = collected(name, tmp_path / "out.jsonl")
    found = {
        "formats": sorted(set(summary.formats.values())),
        "skipped": dict(sorted(summary.skipped.items())),
        "duplicates": summary.duplicates,
        "rows": [{key: row[key] for key in KEPT if key in row} for row in rows],
    }
    assert summary.broken == 0
    assert found == json.loads((GOLDEN / "expected" / f"{name}.json").read_text())


@pytest.mark.parametrize("service", ["openai", "anthropic", "gemini"])
def test_the_two_files_of_a_batch_may_come_in_any_order(service: str, tmp_path: Path) -> None:
    rows, _ = collected(f"{service}_batch", tmp_path / "out.jsonl")
    paths = [str(GOLDEN / name) for name in reversed(SOURCES[f"{service}_batch"])]
    collect(paths, tmp_path / "back.jsonl", CollectOptions(redact=()))
    back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in back) == sorted(str(row["id"]) for row in rows)


def test_streams_that_cannot_be_told_apart_are_skipped_not_mixed(tmp_path: Path) -> None:
    def chunk(stream: str, text: str, finish: str | None = None) -> dict[str, object]:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        return {"id": stream, "object": "chat.completion.chunk", "choices": [choice]}

    def ask(text: str) -> dict[str, object]:
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}

    log = tmp_path / "log.jsonl"
    lines = [
        ask("One?"),
        ask("Two?"),
        chunk("a", "1"),
        chunk("b", "2", "stop"),
        chunk("a", "", "stop"),
    ]
    alone = [ask("Three?"), chunk("c", "3"), chunk("c", ".", "stop")]
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *alone]))
    summary = collect([str(log)], tmp_path / "out.jsonl", CollectOptions())
    assert summary.skipped == {
        "a request without its answer": 1,
        "several answers to one request": 1,
    }
    (row,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert [turn["content"] for turn in row["messages"]] == ["Three?", "3."]
