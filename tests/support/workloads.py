"""Files as other people write them: the shapes of ten real workloads, and rows in other formats."""

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jade")
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def asked(number: int) -> str:
    """A prompt that no other number's is near to."""
    first, second, third = (WORDS[number // 10**n % 10] for n in range(3))
    return f"Order {number * 7919}: which {first} {second} goes with {third} row {number}, please?"


def _rows(count: int, splits: tuple[str, ...], make: Callable[[int], Row]) -> list[Row]:
    return [
        {"split": splits[n % len(splits)], "prompt": asked(n), "response": f"label_{n % 7}"}
        | make(n)
        for n in range(count)
    ]


BOTH = ("train", "train", "train", "test")
SHAPES: dict[str, list[Row]] = {  # of the real workloads, with invented contents
    "intents": _rows(60, BOTH, lambda n: {}),
    "tickets": _rows(
        60, (*BOTH, "validation"), lambda n: {"category": WORDS[n % 4].upper(), "tags": "B"}
    ),
    "slots": _rows(
        60, BOTH, lambda n: {"domain": "d", "requested": [], "response": json.dumps({"n": str(n)})}
    ),
    "calls": _rows(
        60,
        ("test",),
        lambda n: {
            "subset": "simple",
            "id": f"simple_{n}",
            "messages": [{"role": "user", "content": asked(n)}],
            "tools": TOOLS,
            "response": json.dumps([{"name": "f", "arguments": {"n": n}}]),
            "accepted": [{"f": {"n": [n]}}],
        },
    ),
    "json_mode": _rows(
        60,
        ("train",),
        lambda n: {"system": "JSON Mode: Enabled", "response": f'{{"n": {n}}}', "turns": 2},
    ),
    "spans": _rows(60, BOTH, lambda n: {"template": n, "masked": "{{PERSON}}", "response": "[]"}),
    "sql": _rows(
        60,
        (*BOTH, "validation"),
        lambda n: {"query_split": "train", "rows": n % 3, "response": "S"},
    ),
    "maths": _rows(60, BOTH, lambda n: {"answer": str(n), "response": f"So it is {n}.\n#### {n}"}),
    "code": _rows(
        60,
        ("test",),
        lambda n: {"id": f"E/{n}", "test": "check()", "entry_point": "f", "response": "  pass\n"},
    ),
    "seeds": _rows(60, ("train",), lambda n: {"id": f"seed_{n}", "classification": False}),
}


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _cells(rows: list[Row], delimiter: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def _zstd(text: str) -> bytes:
    import pyarrow

    packed: bytes = pyarrow.compress(text.encode(), codec="zstd", asbytes=True)
    return packed


def _turn(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def sharegpt(pairs: list[tuple[str, str]]) -> bytes:
    rows = [
        {
            "id": f"s{n}",
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": prompt},
                {"from": "gpt", "value": response},
            ],
        }
        for n, (prompt, response) in enumerate(pairs)
    ]
    return json.dumps(rows, indent=1).encode()


def alpaca(pairs: list[tuple[str, str]]) -> bytes:
    return json.dumps(
        [
            {"output": r, "history": [["Hello.", "Hi."]], "instruction": p, "input": "", "mood": 1}
            for p, r in pairs
        ]
    ).encode()


def dolly(pairs: list[tuple[str, str]]) -> bytes:
    rows = [
        {"instruction": "Which?", "context": p, "response": r, "category": "closed_qa"}
        for p, r in pairs
    ]
    return _lines(rows).encode()


def trl_plain(pairs: list[tuple[str, str]]) -> bytes:
    return gzip.compress(_lines({"completion": r, "prompt": p} for p, r in pairs).encode())


def trl_turns(pairs: list[tuple[str, str]]) -> bytes:
    return _parquet(
        [{"prompt": [_turn("user", p)], "completion": [_turn("assistant", r)]} for p, r in pairs]
    )


def questions(pairs: list[tuple[str, str]]) -> bytes:
    rows = [{"question": p, "answer": r, "confidence": "0.5"} for p, r in pairs]
    return b"\xef\xbb\xbf" + _cells(rows, ";").encode()


def fine_tuning(pairs: list[tuple[str, str]]) -> bytes:
    rows = [
        {
            "messages": [
                _turn("user", "Hi.", name="ann"),
                _turn("assistant", "wrong", weight=0),
                _turn("user", p),
                _turn("assistant", r, weight=1),
            ],
            "tools": TOOLS,
            "parallel_tool_calls": False,
        }
        for p, r in pairs
    ]
    return _lines(rows).encode()


def stringified(pairs: list[tuple[str, str]]) -> bytes:
    rows = [{"messages": str([_turn("user", p), _turn("assistant", r)])} for p, r in pairs]
    return _cells(rows, ",").encode()


def nested(pairs: list[tuple[str, str]]) -> bytes:
    rows = [
        {"meta": {"n": n}, "call": {"user": {"text": p}, "reply": [{"text": r}]}}
        for n, (p, r) in enumerate(pairs)
    ]
    return _zstd(_lines(rows))


def utf_16(pairs: list[tuple[str, str]]) -> bytes:
    return _cells([{"Utterance": p, "Intent": r} for p, r in pairs], "\t").encode("utf-16")


def bars(pairs: list[tuple[str, str]]) -> bytes:
    return bz2.compress(_cells([{"query": p, "label": r} for p, r in pairs], "|").encode())


FORMATS: dict[str, tuple[Callable[[list[tuple[str, str]]], bytes], set[str]]] = {
    # file name -> how it is written, and the columns that nobody reads
    "sharegpt.json": (sharegpt, set()),
    "alpaca.json": (alpaca, {"mood"}),
    "dolly.jsonl": (dolly, set()),
    "trl_plain.jsonl.gz": (trl_plain, set()),
    "trl_turns.parquet": (trl_turns, set()),
    "questions.csv": (questions, {"confidence"}),
    "fine_tuning.jsonl": (
        fine_tuning,
        {"parallel_tool_calls", "messages[].name"},
    ),
    "stringified.csv": (stringified, set()),
    "nested.jsonl.zst": (nested, {"meta"}),
    "utf_16.tsv": (utf_16, set()),
    "bars.csv.bz2": (bars, set()),
}


def write(path: Path, rows: Iterable[Row]) -> Path:
    """The rows as a gzipped file of JSON lines."""
    path.write_bytes(gzip.compress(_lines(rows).encode()))
    return path
