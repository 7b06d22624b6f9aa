"""GGUF: what llama.cpp's converter is given, and that its server must answer as was judged."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from support import chat_server, exports, tiny_model
from support.exports import export, names
from understudy.export import gguf
from understudy.models import load


@pytest.mark.slow
def test_what_converters_read_of_the_base_is_exported_too(tmp_path: Path) -> None:
    base = tiny_model.save(tmp_path / "base")
    (base / "tokenizer.model").write_bytes(b"pieces")
    run_json = exports.write_run(tmp_path / "runs", base)
    assert export(run_json, "export.parity.server=none") == 0
    assert (run_json.parent / "export-merged/tokenizer.model").read_bytes() == b"pieces"


CONVERTER = """
import shutil, sys
from pathlib import Path
_, model, _, outtype, _, outfile = sys.argv
assert (outtype, (Path(model) / "tokenizer.model").is_file()) == ("f32", True)
shutil.copytree(model, Path(__file__).parent / "seen")
Path(outfile).write_text(str(Path(__file__).parent / "seen"))
"""


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Path:
    """A stand-in for a checkout: its converter keeps the model, its server is ours on that."""
    path = tmp_path / "llama.cpp"
    (path / "build/bin").mkdir(parents=True)
    (path / "convert_hf_to_gguf.py").write_text(CONVERTER)
    server = path / "build/bin/llama-server"
    server.write_text(f'#!/bin/sh\nexec {sys.executable} {chat_server.__file__} "$@"\n')
    server.chmod(0o755)
    return path


@pytest.mark.slow
def test_a_gguf_is_converted_from_the_checked_merge_and_checked_by_llama_cpp(
    run_json: Path, llama_cpp: Path
) -> None:
    words = ("export.what=gguf", f"export.llama_cpp={llama_cpp}")
    assert export(run_json, *words) == 0
    out = run_json.parent / "export-gguf"
    assert names(out) == {"test-float32.gguf", "README.md", "parity.json"}
    measured = json.loads((out / "parity.json").read_text())["measured"]
    assert measured["llama.cpp, token ids"] == {"prompts": 6}
    assert measured["llama.cpp"]["equal_first_tokens"] == 1
    assert "Rows of llama.cpp are of the file itself." in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_gguf_that_reads_prompts_otherwise_is_refused(
    run_json: Path, llama_cpp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converter = llama_cpp / "convert_hf_to_gguf.py"
    damage = (
        'path = Path(__file__).parent / "seen/chat_template.jinja"\n'
        'path.write_text("<s>" + path.read_text())\n'
    )
    converter.write_text(CONVERTER + damage)
    assert export(run_json, "export.what=gguf", f"export.llama_cpp={llama_cpp}") == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert "not exported: llama.cpp: token ids differ at token 0 of prompt p0: " in said
    assert names(run_json.parent) == {"run.json", "export-parity.json"}


@pytest.mark.slow
def test_without_llama_cpps_server_the_gguf_says_that_it_was_not_checked(
    run_json: Path, llama_cpp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (llama_cpp / "build/bin/llama-server").unlink()
    assert export(run_json, "export.what=gguf", f"export.llama_cpp={llama_cpp}") == 0
    said = capsys.readouterr().out
    assert "not checked: llama.cpp: " in said
    assert ": gguf of demo, converted from a merge; as judged in template, " in said
    text = (run_json.parent / "export-gguf/README.md").read_text()
    assert (
        "The judged model and the merge this file was converted from were given the same test "
        "prompts. The GGUF file itself was not run.\n"
    ) in text
    (llama_cpp / "convert_hf_to_gguf.py").write_text("raise SystemExit('no sentencepiece')")
    assert export(run_json, "export.what=gguf", f"export.llama_cpp={llama_cpp}", "--force") == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert "ended with exit code 1: no sentencepiece; export.python=PATH is the python" in said


def test_a_sentencepiece_file_gives_the_ids_that_training_had(base: Path) -> None:
    """Merged by score, as SentencePiece and llama.cpp do, texts have the same tokens."""
    pb2 = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    values = json.loads((base / "tokenizer.json").read_text())
    model = pb2.ModelProto.FromString(gguf.sentencepiece_model(values))
    assert (model.trainer_spec.model_type, model.trainer_spec.byte_fallback) == (2, True)
    assert model.normalizer_spec.add_dummy_prefix is False
    tokenizer = load.tokenizer(tiny_model.build(base).model)
    pieces = [piece.piece for piece in model.pieces]
    assert pieces == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert [model.pieces[i].type for i in (0, 1, 2, 5, 300)] == [2, 3, 3, 6, 1]
    score = {piece.piece: piece.score for piece in model.pieces if piece.type == 1}
    for text in ("What is the colour of item 7?", "the size of the items", "überall ▁"):
        normal = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
        assert by_score(list(normal), score, pieces) == tokenizer.encode(
            text, add_special_tokens=False
        )


def by_score(symbols: list[str], score: dict[str, float], pieces: list[str]) -> list[int]:
    while True:
        pairs = ["".join(pair) for pair in pairwise(symbols)]
        known = [(score[pair], -place) for place, pair in enumerate(pairs) if pair in score]
        if not known:
            break
        place = -max(known)[1]
        symbols[place : place + 2] = [pairs[place]]
    ids = []
    for symbol in symbols:
        if symbol in pieces:
            ids.append(pieces.index(symbol))
        else:
            ids += [pieces.index(f"<0x{byte:02X}>") for byte in symbol.encode()]
    return ids


def test_special_tokens_of_a_base_with_a_sentencepiece_file_are_listed(tmp_path: Path) -> None:
    base = tiny_model.save(tmp_path / "base")
    (base / "tokenizer.model").write_bytes(b"pieces")
    before = json.loads((base / "tokenizer_config.json").read_text())
    gguf.add_sentencepiece(base)
    after = json.loads((base / "tokenizer_config.json").read_text())
    assert (base / "tokenizer.model").read_bytes() == b"pieces"
    assert after.keys() - before.keys() == {"added_tokens_decoder"}
    assert after["added_tokens_decoder"]["2"]["content"] == tiny_model.STOP


@pytest.mark.parametrize(
    ("normalizer", "adds"),
    [
        ({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, False),
        ({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]}, True),
    ],
)
def test_a_space_before_a_text_is_told_where_training_had_one(
    normalizer: dict[str, object], adds: bool, tmp_path: Path
) -> None:
    model = {"type": "BPE", "byte_fallback": True, "vocab": {"<unk>": 0}, "merges": []}
    values = {"model": model, "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    gguf.add_sentencepiece(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["add_prefix_space"], settings["add_bos_token"]) == (adds, False)
