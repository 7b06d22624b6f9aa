"""What runs in vLLM's own virtual environment: `PYTHON -P vllm_worker.py [GROUP [ARGUMENT ...]]`.

understudy is not installed there: nothing but vLLM and the standard library is imported. Without
an ARGUMENT it only says whether vLLM is there, and how to give one to the config group GROUP.

GROUP=serve: the arguments are those of vLLM's own server, which is started.

GROUP=inference: the argument is a DIRECTORY of requests to answer.
DIRECTORY/engine.json     arguments of vllm.LLM and of vllm.SamplingParams, and the adapter
DIRECTORY/requests.jsonl  {batch, id, k, seed, prompt}; the prompt is a list of tokens
DIRECTORY/answers.jsonl   {id, k, tokens, finish}, appended batch after batch
On stdout come a line with the version when the engine is ready, and one after each batch.
"""

import importlib.util
import json
import os
import runpy
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

NO_VLLM = (
    "{group}.engine=vllm: {python} has no vllm; make a virtual environment for it "
    "(python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm==0.33.0) and give "
    "{group}.python=$HOME/vllm/bin/python"
)


def main(group: str = "inference", *arguments: str) -> int:
    """Exit code: 2 without vLLM, with one sentence on stderr."""
    if importlib.util.find_spec("vllm") is None:
        print(NO_VLLM.format(group=group, python=sys.executable), file=sys.stderr)
        return 2
    if arguments:
        _die_with_parent()
        if group == "serve":
            sys.argv[1:] = arguments
            runpy.run_module("vllm.entrypoints.openai.api_server", None, "__main__", True)
        else:
            _answer(Path(arguments[0]))
    return 0


def _answer(directory: Path) -> None:
    """Load the engine, then hand it one batch after the other."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM logs to stdout
    # In this process, so that both end together, and are scheduled alike each time:
    # docs.vllm.ai/en/latest/usage/reproducibility
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    import vllm  # type: ignore[import-not-found, unused-ignore]

    engine = json.loads((directory / "engine.json").read_text(encoding="utf-8"))
    llm = vllm.LLM(**engine["llm"])
    adapter = None
    if engine["adapter"] is not None:
        from vllm.lora.request import (  # type: ignore[import-not-found, unused-ignore]
            LoRARequest,
        )

        adapter = LoRARequest("finetuned", 1, engine["adapter"])
    print(json.dumps({"version": vllm.__version__}), file=told, flush=True)
    with (
        (directory / "requests.jsonl").open(encoding="utf-8") as lines,
        (directory / "answers.jsonl").open("a", encoding="utf-8") as answers,
    ):
        for _, batch in groupby(map(json.loads, lines), key=lambda request: request["batch"]):
            requests = list(batch)
            outputs = llm.generate(
                [vllm.TokensPrompt(prompt_token_ids=one["prompt"]) for one in requests],
                [vllm.SamplingParams(seed=one["seed"], **engine["sampling"]) for one in requests],
                use_tqdm=False,
                lora_request=adapter,
            )
            rows = [_row(*pair) for pair in zip(requests, outputs, strict=True)]
            answers.write("".join(f"{json.dumps(row)}\n" for row in rows))
            answers.flush()
            llm.reset_prefix_cache()  # so that a batch is the same whatever came before it
            print(json.dumps({"answers": len(rows)}), file=told, flush=True)


def _row(request: dict[str, Any], output: Any) -> dict[str, Any]:
    """One answer, its stop token still among the tokens."""
    (made,) = output.outputs
    if made.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended {request['id']} with {made.finish_reason}")
    return {
        "id": request["id"],
        "k": request["k"],
        "tokens": list(made.token_ids),
        "finish": made.finish_reason,
    }


def _die_with_parent() -> None:
    """Ask Linux to end this process, and free the GPU, when the one that started it ends."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
        if os.getppid() != parent:  # it died before the call
            raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
