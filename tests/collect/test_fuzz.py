"""Lines that nobody meant: `understudy collect` names them, and never falls over."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.cli.main import main
from understudy.collect.formats import FORMATS

GOLDEN = Path(__file__).with_name("golden")
LINES = 10_000
ODD: list[Any] = [
    *(None, True, 0, -1, 1e308, 2**70, "", "x", "\ud800", "{", "[1]", '{"a":', "data: {", "\0"),
    *([], {}, [None], [[]], [{}], {"type": "text"}, {"role": "user"}, [{"type": 5}], float("nan")),
    *({"choices": [{}]}, {"body": {"body": []}}, [{"delta": []}], {"index": {}}, "assistant"),
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a value."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def spoiled(line: str, dice: random.Random) -> bytes:
    """A line after one to three accidents, in its values or in its bytes."""
    values = json.loads(line)
    for _ in range(dice.randint(1, 3)):
        container, key = dice.choice(list(places(values)) or [([0], 0)])
        accident = dice.randrange(4)
        if accident == 0 and isinstance(container, dict):
            container.pop(key)
        elif accident == 1 and isinstance(container, dict):
            container[dice.choice(["", "id", "type", "content", "\ud800"])] = container.pop(key)
        elif accident == 2:
            container[key] = [container[key]]
        else:
            container[key] = copy.deepcopy(dice.choice(ODD))
    raw = bytearray(json.dumps(values).encode())
    if dice.random() < 0.2:
        raw[dice.randrange(len(raw)) :] = b""
    if dice.random() < 0.2 and raw:
        raw[dice.randrange(len(raw))] = dice.randrange(256)
    return bytes(raw).replace(b"\n", b" ")


@pytest.mark.parametrize("name", [None, *FORMATS])
def test_fuzzed_lines_give_no_traceback(
    name: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(f"seed {name}")
    texts = (path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*.jsonl")))
    good = [line for text in texts for line in text.splitlines()]
    lines = [spoiled(dice.choice(good), dice) for _ in range(LINES // (1 + len(FORMATS)))]
    lines += [b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}", good[0].strip().encode()]
    log, out = tmp_path / "log.jsonl", tmp_path / "out.jsonl"
    log.write_bytes(b"\n".join(lines))
    words = ["collect", str(log), "--out", str(out), "--force", "--max-broken", "100%"]
    words += ["--format", name] if name else []
    for rules in ([], ["--flag", "type", "--task-from", "tags=x.*", "--match", "."]):
        code = main([*words, *rules])
        said = capsys.readouterr()
        assert code == 0 or (code == 2 and "no row is left" in said.err)
        if code == 0:
            rows = out.read_text(encoding="utf-8").splitlines()
            assert all(json.loads(row)["messages"] for row in rows)
