"""Sample with vLLM, in a virtual environment of its own: its pins clash with ours.

`inference_vllm_worker.py` runs there as a child, over row files in the attempt's scratch
directory. The rows are those of the other engine: cut the same way, a stop token neither in the
text nor counted. An answer's seed is keyed by (seed, prompt, k), but vLLM's arithmetic depends on
the batch, so only equal batches on equal hardware give equal answers (VLLM_BATCH_INVARIANT=1
lifts that). What the adapter rules are based on: vllm/lora of vLLM 0.33.0.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.config import Config
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import vllm_worker
from understudy.models import load
from understudy.records import dumps
from understudy.store.artifacts import Job, write_atomically

if TYPE_CHECKING:
    from understudy.inference.generate import Generated, Sampling, Wanted

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that LoRAConfig.max_lora_rank takes
_MATRICES = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")


def check(config: Config) -> None:
    """Raise BadInput where the config asks for a vLLM that is not there."""
    if config.inference.kind == "local" and config.inference.engine == "vllm":
        assert config.inference.python is not None, "agreement.check asks for it"
        _check_python(config.inference.python)


@lru_cache(maxsize=8)  # a sweep asks for every cell
def _check_python(python: str) -> None:
    try:
        done = subprocess.run(_command(python), capture_output=True, text=True)
    except OSError as error:
        raise BadInput(f"inference.python={python} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise BadInput(_last_line(done.stderr))


def _command(python: str, *arguments: str) -> list[str]:
    """`-P`: our package's directory must not shadow modules that vLLM imports."""
    return [str(Path(python).expanduser()), "-P", vllm_worker.__file__, *arguments]


@contextmanager
def results(
    job: Job,
    tokenizer: Any,
    finetuned: Path | None,
    batches: Sequence[Sequence["Wanted"]],
    sampling: "Sampling",
    kind: Any,
) -> Iterator[Iterator[list["Generated"]]]:
    """Start the engine; what comes out, batch after batch; then end it.

    Raises BadInput without vLLM, EnvironmentFailed where the engine breaks.
    """
    directory = job.scratch / "vllm"
    directory.mkdir(exist_ok=True)
    python = job.config.inference.python
    assert python is not None, "agreement.check asks for it"
    _write_job(directory, _engine(job, finetuned, sampling, kind), batches, sampling)
    log = directory / "log.txt"
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            _command(python, str(directory)), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        job.notes["engine"] = f"vllm {_told(child, python, log)['version']}"
        yield _read(child, python, log, directory / "answers.jsonl", batches, tokenizer, sampling)
    finally:
        child.terminate()
        child.communicate()


def _engine(job: Job, finetuned: Path | None, sampling: "Sampling", kind: Any) -> dict[str, Any]:
    """What engine.json says: the model to serve, and how."""
    model = job.config.model
    base = load.directory(model)
    served, adapter, rank = finetuned or base, None, 0
    if finetuned is not None and load.is_adapter(finetuned):
        reason = why_merge(finetuned, model.new_tokens)
        job.notes["adapter"] = f"merged: {reason}" if reason else "served"
        if reason:
            served = _merged(job, finetuned, kind)
        else:
            served, adapter, rank = base, finetuned, _rank(finetuned)
    lora = {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": next((most for most in _RANKS if most >= rank), rank),
    }
    return {
        "llm": {
            "model": str(served),
            "tokenizer": str(finetuned or base),
            "dtype": str(kind).removeprefix("torch."),
            "max_model_len": model.context,
            "seed": job.config.seed,
            "generation_config": "vllm",  # ours is all there is: no cap of the model's own
        }
        | (lora if adapter else {}),
        "adapter": str(adapter) if adapter else None,
        "sampling": {
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": sorted(sampling.stop_ids),
            "stop": list(sampling.stop_texts) or None,
        },
    }


def why_merge(adapter: Path, new_tokens: Sequence[str] = ()) -> str | None:
    """Why vLLM cannot serve the adapter as it is, or None; vLLM reads LoRA matrices only."""
    from safetensors import safe_open

    if new_tokens:
        return f"the base has no row for {new_tokens[0]}"
    if _rank(adapter) > _RANKS[-1]:
        return f"rank {_rank(adapter)} is above {_RANKS[-1]}"
    with safe_open(adapter / "adapter_model.safetensors", framework="numpy") as tensors:
        others = [name for name in tensors.keys() if not name.endswith(_MATRICES)]  # noqa: SIM118
    return f"{min(others)} is no LoRA matrix" if others else None


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return max(map(int, [config["r"], *(config.get("rank_pattern") or {}).values()]))


def _merged(job: Job, adapter: Path, kind: Any) -> Path:
    """The whole model in scratch, once for all attempts; its memory is free again after."""
    import torch

    path = job.scratch / "merged"
    if not path.is_dir():
        torn = path.with_suffix(".torn")
        load.finetuned(job.config.model, adapter, kind).save_pretrained(torn)
        torn.rename(path)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return path


def _write_job(
    directory: Path,
    engine: dict[str, Any],
    batches: Sequence[Sequence["Wanted"]],
    sampling: "Sampling",
) -> None:
    write_atomically(directory / "engine.json", json.dumps(engine, indent=1))
    requests = (
        {
            "batch": number,
            "id": one.prompt_id,
            "k": one.k,
            "seed": seed_of(sampling.seed, one.prompt_id, one.k),
            "prompt": one.ids,
        }
        for number, batch in enumerate(batches)
        for one in batch
    )
    write_atomically(directory / "requests.jsonl", "".join(f"{dumps(r)}\n" for r in requests))
    write_atomically(directory / "answers.jsonl", "")  # what an attempt before this left is logged


def seed_of(seed: int, prompt_id: str, k: int) -> int:
    """The seed of one answer, 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{prompt_id}\0{k}".encode()).digest()[:4])


def _read(
    child: "subprocess.Popen[str]",
    python: str,
    log: Path,
    answers: Path,
    batches: Sequence[Sequence["Wanted"]],
    tokenizer: Any,
    sampling: "Sampling",
) -> Iterator[list["Generated"]]:
    """The answers of each batch as soon as the child says that they are written."""
    with answers.open(encoding="utf-8") as lines:
        for batch in batches:
            told = _told(child, python, log)
            assert told["answers"] == len(batch), f"{told} after a batch of {len(batch)}"
            rows = [json.loads(lines.readline()) for _ in batch]
            for one, row in zip(batch, rows, strict=True):
                assert (row["id"], row["k"]) == (one.prompt_id, one.k), f"{answers} out of order"
            yield [_generated(row, tokenizer, sampling) for row in rows]


def _generated(row: dict[str, Any], tokenizer: Any, sampling: "Sampling") -> "Generated":
    """The answer as the other engine would give it."""
    from understudy.inference.generate import Generated, finish

    tokens = row["tokens"]
    if row["finish"] == "stop" and tokens and tokens[-1] in sampling.stop_ids:
        tokens = tokens[:-1]
    return finish(Generated(tokens, is_stopped=row["finish"] == "stop"), tokenizer, sampling)


def _told(child: "subprocess.Popen[str]", python: str, log: Path) -> dict[str, Any]:
    """The child's next line; its death in words."""
    assert child.stdout is not None
    if line := child.stdout.readline():
        told: dict[str, Any] = json.loads(line)
        return told
    code, last = child.wait(), _last_line(log.read_text(encoding="utf-8", errors="replace"))
    if code == 2:
        raise BadInput(last)
    if "out of memory" in last.lower():
        raise EnvironmentFailed(
            f"vLLM ran out of memory ({last}); lower model.context, or free the GPU, and go on"
        )
    raise EnvironmentFailed(f"vLLM ({python}) ended with exit code {code}: {last} ({log})")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
