"""`understudy forget --user ID`: whose rows go, whose stay, and which stages are named."""

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from support import evaluations, records
from understudy.cli.main import main
from understudy.records import Answer, Coverage, HumanLabel


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(root: Path) -> str:
    return "".join(path.read_text() for path in sorted(root.rglob("*")) if path.is_file())


def chat(user: Any, text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "user": user} | more


def stage(root: Path, path: str, rows: list[Any], **inputs: str) -> str:
    evaluations.write(root / path / "out", rows)
    (root / path / "inputs.json").write_text(json.dumps({"inputs": inputs}))
    (root / path / "DONE").touch()
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ann's and Bob's words everywhere; of the run, Ann's as `collect` has made them."""
    root = tmp_path / "runs"
    gateway = root / "gateway"
    pair = {"response": {}, "metadata": {"by": "local"}}
    for kind in ("pairs", "local_pairs"):
        lines(
            gateway / kind / "2026-11-30.jsonl",
            pair | {"request_id": f"{kind}1", "request": chat("ann", "ann's words")},
            pair | {"request_id": f"{kind}2", "request": chat("bob", "bob's words")},
            pair | {"request_id": f"{kind}3", "request": chat(7, "more of bob's")},
        )
    lines(
        gateway / "requests/2026-11-30.jsonl",
        {"id": "pairs1", "by": "service"}, {"id": "pairs2", "by": "service"},
    )  # fmt: skip
    shadow = {"prompt": "p", "reference": "r", "candidate": "ann's answer", "generator": "g"}
    lines(
        gateway / "shadow/2026-11-30.jsonl",
        shadow | {"group_id": digest("user ann"), "group_of": "user"},
        shadow | {"group_id": digest("user bob"), "candidate": "bob's answer"},
    )
    lines(
        root / "watch/move/judged.jsonl",
        {"id": "local_pairs1", "group": "x", "whose": digest("user ann"), "prompt": "ann's words"},
        {"id": "local_pairs2", "group": "y", "whose": digest("user bob"), "prompt": "bob's words"},
    )
    said = [{"role": "user", "content": "ann's words"}, {"role": "assistant", "content": "a"}]
    rows = [
        Coverage(f"p{name}", digest(name), said, "t", None, "file", "holdout")
        for name in ("ann", "bob")
    ]
    coverage = stage(root, "coverage/c", rows)
    split = stage(root, "split/s", rows, coverage=coverage)
    answer = Answer("pann", digest("ann"), 0, "ann's", 1, "stop", "g", "f")
    stage(root, "inference/i", [answer], split=split)
    stage(root, "finetune/f", [], split=split)
    stage(root, "finetune/other", [])
    labels = root / "run/move/labels"
    label = HumanLabel("pann", "g", 0, "r", "", "precision", "1-5", 3.0, 1.0, "scored")
    lines(labels / "labels.jsonl", label.to_dict(), label.to_dict() | {"prompt_id": "pbob"})
    items = [{"item": name, "prompt_id": f"p{name}"} for name in ("ann", "bob")]
    (labels / "draw.json").write_text(json.dumps({"answers": {}, "items": items}))
    (labels / "label.html").write_text("ann's words")
    elsewhere = lines(
        tmp_path / "tickets.jsonl", chat(None, "ann's words", group_id="ann"), chat(None, "bob's")
    )
    config = {"coverage": {"path": str(elsewhere)}}
    record = records.record(name="move", config=config, stages={"split": split})
    (root / "run/move/run.json").write_text(json.dumps(record))
    return root


def test_one_users_rows_go_and_the_others_stay(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = texts(root)
    assert main(["forget", "--user", "ann", "--root", str(root), "--dry-run"]) == 0
    assert texts(root) == before
    told = capsys.readouterr().out
    assert main(["forget", "--user", "ann", "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert said == told.replace("would be removed", "removed")
    assert said.count("1 removed") == 9  # four logs, the watch, labels, draw, page, tickets
    assert "hold rows of this user: coverage/c, inference/i, split/s" in said
    assert "made from them: finetune/f\n" in said
    for folder in ("gateway", "watch", "run/move/labels"):
        left = texts(root / folder)
        assert "ann" not in left
        assert "bob" in left
        assert "pairs1" not in left
    assert "ann" not in (root.parent / "tickets.jsonl").read_text()
    assert not (root / "run/move/labels/label.html").exists()
    assert stat.S_IMODE((root / "gateway/pairs/2026-11-30.jsonl").stat().st_mode) == 0o600
    assert main(["forget", "--user", "ann", "--root", str(root)]) == 0
    assert "removed:" not in capsys.readouterr().out


def test_a_number_is_an_id_and_nobody_is_said_to_be_nobody(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["forget", "--user", "7", "--root", str(root)]) == 0
    assert capsys.readouterr().out.count("1 removed") == 2
    assert main(["forget", "--user", "carl", "--root", str(root)]) == 0
    assert "nothing of carl" in capsys.readouterr().out
    assert main(["forget", "--user", " ", "--root", str(root)]) == 2


def test_what_cannot_be_rewritten_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = root.parent / "tickets.csv"
    table.write_text("user_id,prompt\nann,hello\n")
    assert main(["forget", str(table), "--user", "ann", "--root", str(root)]) == 1
    assert f"not removed: {table}" in capsys.readouterr().out
    assert "ann" in table.read_text()


def test_a_file_that_a_gateway_writes_is_left_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    address = {"url": "http://127.0.0.1:1", "pid": os.getpid(), "key_env": None}
    (root / "gateway/address.json").write_text(json.dumps(address))
    before = texts(root / "gateway")
    assert main(["forget", "--user", "ann", "--root", str(root)]) == 1
    assert "a gateway runs there" in capsys.readouterr().out
    assert texts(root / "gateway") == before
