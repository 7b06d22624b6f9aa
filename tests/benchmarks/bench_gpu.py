"""Fine-tuning at real shapes on one GPU: `python tests/benchmarks/bench_gpu.py`.

Random weights in the shapes of Gemma 2B and LLaMA3 8B go through our finetune stage, each case in
a process of its own: full, LoRA and QLoRA (which needs bitsandbytes), packed and not. Without a
GPU nothing is measured; `--smoke` runs the same code on a tiny shape.

tokens/s  tokens trained on, without padding, by the wall clock, after a step of warming up
MFU       tokens/s x FLOPs per token / peak FLOP/s of the GPU: PaLM (arXiv 2204.02311), appendix B,
          where a token costs 6N + 12 L H Q T: N weights that multiply (the input embedding looks
          up), L layers, H heads of width Q, T tokens attended to, here the mean over tokens of
          their conversation's length. Of frozen weights no gradient is computed: 4N for those.
          Recomputed activations do not count.
memory    torch.cuda.max_memory_allocated, in GiB
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import tiny_model
from understudy import locations
from understudy.config import Config
from understudy.models import load
from understudy.records import Coverage

# Shapes as in the config.json of google/gemma-2b-it and meta-llama/Meta-Llama-3-8B-Instruct.
SHAPES: dict[str, dict[str, Any]] = {
    "gemma_2b": {
        **{"model_type": "gemma", "vocab_size": 256_000, "hidden_size": 2048, "head_dim": 256},
        **{"intermediate_size": 16_384, "num_hidden_layers": 18, "num_attention_heads": 8},
        **{"num_key_value_heads": 1, "max_position_embeddings": 8192},
    },
    "llama3_8b": {
        **{"model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096},
        **{"intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"num_key_value_heads": 8, "max_position_embeddings": 8192, "rope_theta": 500_000.0},
    },
}
SMOKE = {
    **{"model_type": "llama", "vocab_size": 6000, "hidden_size": 64, "intermediate_size": 128},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 1024},
}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"trainer__kind": "lora", "trainer__lora_rank": 16},
    "qlora": {
        **{"trainer__kind": "lora", "trainer__lora_rank": 16},
        "trainer__quantization": "nf4",
    },
    "full": {"trainer__kind": "full"},
}
# Dense bf16 tensor-core FLOP/s of NVIDIA's data sheets (where those give it with sparsity, half)
PEAK = {
    **{"NVIDIA H200": 989.5e12, "NVIDIA H100 80GB HBM3": 989.5e12, "NVIDIA H100 PCIe": 756.5e12},
    **{"NVIDIA A100": 312e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12},
}
LENGTH = 1024  # trainer.max_length, and of a packed sequence


def shape_config(shape: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(**shape)


def write_model(shape: dict[str, Any], path: Path) -> None:
    """A random model of the shape, in bf16, with the tokenizer of the tiny one."""
    import torch
    from transformers import AutoModelForCausalLM

    tiny = locations.model("package:tiny")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy2(tiny / name, path / name)
    torch.manual_seed(0)
    with load.device():
        model = AutoModelForCausalLM.from_config(shape_config(shape), dtype=torch.bfloat16)
    model.save_pretrained(path)


def settings(path: Path, kind: str, packed: bool, steps: int) -> Config:
    return tiny_model.build(
        path,
        **{"model__context": LENGTH, "trainer__max_length": LENGTH, "trainer__packing": packed},
        **{"trainer__batch_size": 8, "trainer__per_device_batch": None if packed else 4},
        **{"trainer__lr": 1e-5, "trainer__epochs": 100.0, "trainer__max_steps": steps + 2},
        **{"trainer__keep": "last", "trainer__evaluations": 1},  # no checkpoint before the end
        **KINDS[kind],
    )


def rows() -> list[Coverage]:
    """Conversations of very different lengths, as people's are."""
    draw = random.Random(0)
    return [
        tiny_model.row(f"r{n}", f"List item {n}.", " ".join(f"value {n}" for _ in range(words)))
        for n in range(256)
        for words in [max(4, min(150, round(draw.lognormvariate(3.8, 0.7))))]
    ]


def attended(config: Config, data: list[Coverage]) -> float:
    """T: the mean over tokens of their conversation's length."""
    tokenizer = load.tokenizer(config.model)
    lengths = [
        len(load.chat_ids(tokenizer, row.messages, row.id, add_generation_prompt=False))
        for row in data
    ]
    return sum(length**2 for length in lengths) / sum(lengths)


def flops_per_token(shape: dict[str, Any], kind: str, tokens: float) -> float:
    """Of forward and backward pass; the module's docstring has the formula."""
    import torch
    from transformers import AutoModelForCausalLM

    config = shape_config(shape)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not config.tie_word_embeddings:
        weights -= model.get_input_embeddings().weight.numel()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * width * tokens
    return (6 if kind == "full" else 4) * weights + attention


def measure(shape: dict[str, Any], path: Path, kind: str, packed: bool, steps: int) -> None:
    """Print what one case came to; run in a process of its own."""
    import stage_clock
    import torch

    load.quiet()
    load.use_threads(1)
    config, data = settings(path, kind, packed, steps), rows()
    with tempfile.TemporaryDirectory() as root:
        train = stage_clock.stage(Path(root), config, data)
        timed = stage_clock.timed(train, stage_clock.Clock(steps))
    mfu = memory = None
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        # The longest name that fits: "NVIDIA L4" is no "NVIDIA L40S"; what is not listed has none
        fits = [known for known in PEAK if f"{name} ".startswith((f"{known} ", f"{known}-"))]
        cost = flops_per_token(shape, kind, attended(config, data))
        if fits:
            mfu = timed.tokens_per_second * cost / PEAK[max(fits, key=len)]
        memory = torch.cuda.max_memory_allocated() / 2**30
    told = {"tokens_per_second": timed.tokens_per_second, "mfu": mfu, "memory_gib": memory}
    print(json.dumps(told))


def line(case: list[str], done: "subprocess.CompletedProcess[str]") -> str:
    """A row of the table; a case that failed says why."""
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.strip()]
        words = "out of memory" if "out of memory" in done.stderr.lower() else said[-1]
        return f"{case[0]:<12}{case[1]:<7}{case[2]:<10}{words[:90]}"
    told = json.loads(done.stdout.splitlines()[-1])
    mfu = "-" if told["mfu"] is None else f"{100 * told['mfu']:.1f} %"
    memory = "-" if told["memory_gib"] is None else f"{told['memory_gib']:.1f}"
    rate = f"{told['tokens_per_second']:,.0f}"
    return f"{case[0]:<12}{case[1]:<7}{case[2]:<10}{rate:>10}{mfu:>9}{memory:>9}"


def main(arguments: argparse.Namespace) -> int:
    shapes = {"smoke": SMOKE} if arguments.smoke else SHAPES
    if arguments.case:
        shape, kind, packing, path = arguments.case
        measure(shapes[shape], Path(path), kind, packing == "packed", arguments.steps)
        return 0
    load.quiet()
    device = load.device()
    if device.type == "cpu" and not arguments.smoke:
        print("bench_gpu.py: no GPU here, nothing is measured (--smoke runs a tiny shape)")
        return 0
    import torch

    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}, torch {torch.__version__}, {arguments.steps} steps of 8 rows or sequences")
    header = f"{'tokens/s':>10}{'MFU':>9}{'GiB':>9}"
    print(f"{'shape':<12}{'train':<7}{'':<10}{header}", flush=True)
    failed = 0
    for name, shape in shapes.items():
        with tempfile.TemporaryDirectory(dir=arguments.place) as path:
            write_model(shape, Path(path))
            torch.cuda.empty_cache()
            for kind in arguments.kinds:
                for packing in ("packed", "unpacked"):
                    case = [name, kind, packing]
                    command = [sys.executable, __file__, "--steps", str(arguments.steps)]
                    command += ["--smoke"] * arguments.smoke + ["--case", *case, path]
                    done = subprocess.run(command, capture_output=True, text=True)
                    failed += bool(done.returncode)
                    print(line(case, done), flush=True)
    return int(bool(failed) and arguments.smoke)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny shape, also on a CPU")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--place", help="directory for up to 16 GB of weights")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
