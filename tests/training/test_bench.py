"""The training benchmarks: what they count, and that they still run."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


def test_shapes_have_the_published_sizes_and_a_token_its_flops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_gpu

    gemma, llama = (bench_gpu.SHAPES[name] for name in ("gemma_2b", "llama3_8b"))
    # 2.51 B weights, the embedding is the output layer too; 8.03 B, of which 128,256 x 4096 look up
    assert bench_gpu.flops_per_token(gemma, "full", 0) == 6 * 2_506_172_416
    assert bench_gpu.flops_per_token(llama, "full", 0) == 6 * (8_030_261_248 - 128_256 * 4096)
    assert bench_gpu.flops_per_token(llama, "lora", 0) == 4 * (8_030_261_248 - 128_256 * 4096)
    attention = bench_gpu.flops_per_token(gemma, "full", 100) - 6 * 2_506_172_416
    assert attention == 12 * 18 * 8 * 256 * 100


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_without_a_gpu_the_gpu_bench_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "no GPU here, nothing is measured" in run("bench_gpu.py")


@pytest.mark.soak
def test_the_gpu_bench_runs_on_a_tiny_shape() -> None:
    lines = run("bench_gpu.py", "--smoke", "--steps", "1", "--kinds", "lora", "full").splitlines()
    cases = [line.split()[:3] for line in lines[2:]]
    packings = ("packed", "unpacked")
    assert cases == [["smoke", kind, how] for kind in ("lora", "full") for how in packings]
    assert all(float(line.split()[3].replace(",", "")) > 0 for line in lines[2:])


@pytest.mark.slow
def test_the_stage_and_a_bare_trainer_train_the_same_in_the_bench(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_finetune

    ours, bare = bench_finetune.measure(3)
    assert len(ours.cpu) == len(bare.cpu) == 4
    assert ours.losses == bare.losses
    assert ours.tokens == bare.tokens
    assert bench_finetune.ratios([9, 4, 6], [9, 2, 6]) == [1.0, 2.0]
