"""Make a GGUF file with llama.cpp's own converter, and find llama.cpp's server.

The converter's Llama classes read a SentencePiece file. Bases that come without one but have such
a tokenizer all the same (BPE with byte fallback, spaces as ▁) get every score -1000 from it, so
llama.cpp would merge in another order than training did (gguf-py/gguf/vocab.py, LlamaHfVocab): it
read none of the tiny model's 64 test prompts as training had, and answered 37 of them alike. For
those, `tokenizer.model` is written here, with the rank of its merge as each token's score.
"""

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.errors import BadInput, EnvironmentFailed

_CONVERTER = "convert_hf_to_gguf.py"
_OUTTYPE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # sentencepiece_model.proto, SentencePiece.Type
_HOW = (
    "git clone --depth 1 https://github.com/ggml-org/llama.cpp && pip install -r llama.cpp/"
    "requirements/requirements-convert_hf_to_gguf.txt (in a virtual environment of its own, named "
    "by export.python)"
)


def check(llama_cpp: str | None) -> Path:
    """The checkout of llama.cpp; BadInput says how to get one."""
    if llama_cpp is None:
        raise BadInput(f"export.what=gguf needs export.llama_cpp=DIR; to get one: {_HOW}")
    path = Path(llama_cpp).expanduser()
    if not (path / _CONVERTER).is_file():
        raise BadInput(f"export.llama_cpp={llama_cpp} has no {_CONVERTER}; to get one: {_HOW}")
    return path


def server(llama_cpp: Path) -> Path | None:
    """llama.cpp's server, where it is built as its own instructions say."""
    path = llama_cpp / "build" / "bin" / "llama-server"
    return path if path.is_file() else None


def convert(merged: Path, dtype: str, llama_cpp: Path, python: str | None, out: Path) -> None:
    """Convert a merged model; raises EnvironmentFailed with the converter's last line."""
    add_sentencepiece(merged)
    script = str((llama_cpp / _CONVERTER).absolute())
    command = [str(Path(python or sys.executable).expanduser()), script, str(merged)]
    command += ["--outtype", _OUTTYPE[dtype], "--outfile", str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise BadInput(f"export.python={python} cannot be run: {error.strerror}") from None
    if done.returncode or not out.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise EnvironmentFailed(
            f"{script} ended with exit code {done.returncode}: {lines[-1].strip()}; export.python="
            "PATH is the python that has its requirements"
        )


def add_sentencepiece(merged: Path) -> None:
    """Write what the converter reads of a SentencePiece tokenizer, unless it is there.

    Where `tokenizer.model` is made here, a text gets no space or token before it that training
    did not give it; special tokens are listed by id, as transformers 4 did.
    """
    found = json.loads((merged / "tokenizer.json").read_text(encoding="utf-8"))
    model, path = found["model"], merged / "tokenizer.model"
    if model["type"] != "BPE" or not model.get("byte_fallback"):
        return
    added: dict[str, Any] = {}
    if not path.exists():
        path.write_bytes(sentencepiece_model(found))
        added |= {"add_prefix_space": _adds_space(found), "add_bos_token": False}
    added["added_tokens_decoder"] = {str(one["id"]): one for one in found["added_tokens"]}
    settings = merged / "tokenizer_config.json"
    values = json.loads(settings.read_text(encoding="utf-8")) | added
    settings.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _adds_space(tokenizer: dict[str, Any]) -> bool:
    parts = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")])
    return any(word in parts for word in ('"Prepend"', '"always"', '"first"'))


def sentencepiece_model(tokenizer: dict[str, Any]) -> bytes:
    """A `tokenizer.json` as a SentencePiece model: equal ids, a merge's rank as the score.

    Protocol buffers, written by hand: pieces are field 1 (text 1, score 2, type 3), the trainer's
    specification is field 2 (type 3: BPE is 2; byte fallback 35; ids of unk, bos, eos, pad 40-43),
    the normaliser's is field 3 (dummy prefix 3, extra spaces removed 4, spaces escaped 5).
    """
    model = tokenizer["model"]
    added = {one["id"]: one for one in tokenizer["added_tokens"]}
    tokens = {number: text for text, number in model["vocab"].items()}
    tokens |= {number: one["content"] for number, one in added.items()}
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    rank: dict[str, int] = {}
    for place, pair in enumerate(merges):
        rank.setdefault("".join(pair), place)
    pieces = bytearray()
    for number in range(max(tokens) + 1):
        text = tokens.get(number, f"[PAD{number}]")
        kind = _kind(text, number in added, model.get("unk_token"))
        score = 0.0 if kind != _NORMAL else -float(rank.get(text, len(rank)))
        piece = _bytes(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)
        pieces += _bytes(1, piece)
    trainer = _number(3, 2) + _number(35, 1)
    return bytes(pieces) + _bytes(2, trainer) + _bytes(3, _number(3, 0) + _number(4, 0))


def _kind(text: str, is_added: bool, unknown: str | None) -> int:
    if text == unknown:
        return _UNKNOWN
    if is_added:
        return _CONTROL
    return _BYTE if re.fullmatch("<0x[0-9A-F]{2}>", text) else _NORMAL


def _bytes(place: int, value: bytes) -> bytes:
    """A field that has a length."""
    return b"".join(_varint(place << 3 | 2)) + b"".join(_varint(len(value))) + value


def _number(place: int, value: int) -> bytes:
    return b"".join(_varint(place << 3)) + b"".join(_varint(value))


def _varint(value: int) -> Iterator[bytes]:
    while value > 127:
        yield bytes([value & 127 | 128])
        value >>= 7
    yield bytes([value])
