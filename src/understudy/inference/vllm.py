"""The bridge to vLLM, which has a virtual environment of its own: its pins clash with ours.

`vllm_worker.py` runs there as a child. For the stage it answers row files in the attempt's scratch
directory (`results`); for `understudy serve` it is vLLM's own server, on a loopback port for this
process only (`serving`).

The stage's rows are those of the other engine: cut the same way, a stop token neither in the text
nor counted. An answer's seed is keyed by (seed, prompt, k), but vLLM's arithmetic depends on the
batch, so only equal batches on equal hardware give equal answers (VLLM_BATCH_INVARIANT=1 lifts
that). What the adapter rules are based on: vllm/lora of vLLM 0.33.0.
"""

import hashlib
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from understudy.config import Config
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import Generated, PromptSample, Sampling, vllm_worker
from understudy.models import load
from understudy.records import dumps
from understudy.store.artifacts import Job, write_atomically

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that LoRAConfig.max_lora_rank takes
_MATRICES = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
_POLL_S = 0.2


def check(config: Config) -> None:
    """Raise BadInput where the config asks for a vLLM that is not there."""
    if config.inference.kind == "local" and config.inference.engine == "vllm":
        assert config.inference.python is not None, "agreement.check asks for it"
        check_python(config.inference.python, "inference")


@lru_cache(maxsize=8)  # a sweep asks for every cell
def check_python(python: str, group: str) -> None:
    """Raise BadInput where `GROUP.python` has no vLLM."""
    try:
        done = subprocess.run(_command(python, group), capture_output=True, text=True)
    except OSError as error:
        raise BadInput(f"{group}.python={python} cannot be run: {error.strerror}") from None
    if done.returncode:
        raise BadInput(_last_line(done.stderr))


def _command(python: str, *arguments: str) -> list[str]:
    """`-P`: our package's directory must not shadow modules that vLLM imports."""
    return [str(Path(python).expanduser()), "-P", vllm_worker.__file__, *arguments]


def merged(path: Path, model: Callable[[], Any], tokenizer: Any) -> Path:
    """The whole model as files, made once; its memory is free again after."""
    import torch

    if not path.is_dir():
        torn = path.with_suffix(".torn")
        model().save_pretrained(torn)
        tokenizer.save_pretrained(torn)
        torn.rename(path)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return path


# --- the stage's batches -----------------------------------------------------------------------


@contextmanager
def results(
    job: Job,
    tokenizer: Any,
    finetuned: Path | None,
    batches: Sequence[Sequence[PromptSample]],
    sampling: Sampling,
    kind: Any,
) -> Iterator[Iterator[list[Generated]]]:
    """Start the engine; what comes out, batch after batch; then end it.

    Raises BadInput without vLLM, EnvironmentFailed where the engine breaks.
    """
    directory = job.scratch / "vllm"
    directory.mkdir(exist_ok=True)
    engine = _engine(job, tokenizer, finetuned, sampling, kind)
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
    write_atomically(directory / "engine.json", json.dumps(engine, indent=1))
    write_atomically(directory / "requests.jsonl", "".join(f"{dumps(r)}\n" for r in requests))
    write_atomically(directory / "answers.jsonl", "")  # what an attempt before this left is logged
    python, log = str(job.config.inference.python), directory / "log.txt"
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            _command(python, "inference", str(directory)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        job.notes["engine"] = f"vllm {_told(child, python, log)['version']}"
        yield _read(child, python, log, directory / "answers.jsonl", batches, tokenizer, sampling)
    finally:
        child.terminate()
        child.communicate()


def _engine(
    job: Job, tokenizer: Any, finetuned: Path | None, sampling: Sampling, kind: Any
) -> dict[str, Any]:
    """What engine.json says: the model to serve, and how."""
    model = job.config.model
    base = load.directory(model)
    served, adapter, lora = finetuned or base, None, {}
    if finetuned is not None and load.is_adapter(finetuned):
        reason = why_merge(finetuned, model.new_tokens)
        job.notes["adapter"] = f"merged: {reason}" if reason else "served"
        if reason:
            served = merged(
                job.scratch / "merged", lambda: load.finetuned(model, finetuned, kind), tokenizer
            )
        else:
            served, adapter, rank = base, str(finetuned), _rank(finetuned)
            most = next(most for most in _RANKS if most >= rank)
            lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": most}
    return {
        "llm": {
            "model": str(served),
            "tokenizer": str(finetuned or base),
            "dtype": load.dtype_name(kind),
            "max_model_len": model.context,
            "seed": job.config.seed,
            "generation_config": "vllm",  # ours is all there is: no cap of the model's own
            **lora,
        },
        "adapter": adapter,
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


def seed_of(seed: int, prompt_id: str, k: int) -> int:
    """The seed of one answer, 32 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{prompt_id}\0{k}".encode()).digest()[:4])


def _read(
    child: "subprocess.Popen[str]",
    python: str,
    log: Path,
    answers: Path,
    batches: Sequence[Sequence[PromptSample]],
    tokenizer: Any,
    sampling: Sampling,
) -> Iterator[list[Generated]]:
    """The answers of each batch as soon as the child says that they are written."""
    from understudy.inference.decode import finished

    with answers.open(encoding="utf-8") as lines:
        for batch in batches:
            told = _told(child, python, log)
            assert told["answers"] == len(batch), f"{told} after a batch of {len(batch)}"
            rows = [json.loads(lines.readline()) for _ in batch]
            for one, row in zip(batch, rows, strict=True):
                assert (row["id"], row["k"]) == (one.prompt_id, one.k), f"{answers} out of order"
            yield [
                finished(tokenizer, row["tokens"], row["finish"] == "stop", sampling)
                for row in rows
            ]


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


# --- vLLM's server -----------------------------------------------------------------------------


class VllmServer(NamedTuple):
    """vLLM's server, which listens."""

    url: str
    key: str
    child: "subprocess.Popen[bytes]"


@contextmanager
def serving(
    python: str, model: Path, name: str, arguments: Sequence[str], log: Path, patience_s: float
) -> Iterator[VllmServer]:
    """Start vLLM's server, wait until it is ready, end it; EnvironmentFailed when it breaks."""
    key = secrets.token_hex()
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    command = _command(
        *(python, "serve", "--model", str(model), "--served-model-name", name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", load.dtype_name(load.dtype())),
        *("--generation-config", "vllm"),  # ours is all there is
        *arguments,
    )
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **_ENVIRONMENT, "VLLM_API_KEY": key},
            start_new_session=True,  # Ctrl-C is for us: what is under way may end
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while not _is_healthy(url):
            if child.poll() is not None:
                last = _last_line(log.read_text(encoding="utf-8", errors="replace"))
                raise EnvironmentFailed(f"vLLM ended with exit code {child.returncode}: {last}")
            time.sleep(_POLL_S)
        yield VllmServer(url, key, child)
    finally:
        child.terminate()
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _is_healthy(url: str) -> bool:
    asks_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with asks_no_proxy.open(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):  # not up yet, or 503 while it loads
        return False
