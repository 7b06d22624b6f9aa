"""Pre-train the tiny base model from scratch on generated text.

    OMP_NUM_THREADS=1 python experiments/tiny_base/pretrain.py --out DIR [--tokens N --seed S]

Writes a Llama-architecture model, its tokenizer and its chat template; a run that was interrupted
goes on from `DIR/checkpoint.pt`. The text comes from `pretraining_text.py` beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pretraining_text
import torch
import torch.nn.functional as functional
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WINDOW, BATCH = 160, 8  # tokens per window, windows per step
VOCABULARY = 2048
ADAM_LR, MUON_LR, WARM_UP = 2e-3, 0.01, 50  # warm-up in steps
PROMPT_WEIGHT = 0.1  # most of a prompt is random words that nobody can predict
TOKENIZER_DOCUMENTS = 20_000
SPECIALS = ("<unk>", "<s>", "<|im_end|>", "<|im_start|>", "<pad>")
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] + '<|im_end|>' }}{% endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def train_tokenizer(documents: Iterable[str], size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Train a Llama-style BPE with byte fallback that gives back any string exactly."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    # Llama writes a space as ▁ and so cannot tell it from a real ▁. Escaping the real one with a
    # noncharacter (and the noncharacter with itself) makes the way back exact for every string.
    escapes = [("\ufdd0", "\ufdd0b"), ("▁", "\ufdd0a")]
    replaced = [normalizers.Replace(old, new) for old, new in [*escapes, (" ", "▁")]]
    tokenizer.normalizer = normalizers.Sequence(replaced)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *[decoders.Replace(new, old) for old, new in reversed(escapes)],
        ]
    )
    # Only while training: keeps words, digits and marks apart, so no merge ever crosses them.
    words = Regex(r"▁?[A-Za-z]+|▁?[0-9]|▁+|[^A-Za-z0-9▁]")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
    trainer = BpeTrainer(
        vocab_size=size - 256,
        special_tokens=list(SPECIALS),
        initial_alphabet=[chr(code) for code in range(33, 127)],
        limit_alphabet=200,
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=_with_bytes(tokenizer),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        padding_side="left",
    )


def _with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Put the 256 byte tokens right after the special ones, as Llama has them."""
    state = json.loads(tokenizer.to_str())
    bpe, specials = state["model"], len(SPECIALS)
    words = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    order = [*words[:specials], *(f"<0x{byte:02X}>" for byte in range(256)), *words[specials:]]
    bpe["vocab"] = {word: index for index, word in enumerate(order)}
    state["pre_tokenizer"] = None
    rebuilt = Tokenizer.from_str(json.dumps(state))
    rebuilt.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    return rebuilt


def build_model(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return an untrained model of about 1.1 M parameters."""
    width = 0.06  # standard deviation of the weights
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        start_with_copying_heads(model)
    return model


def start_with_copying_heads(model: Any) -> None:
    """Start with an induction circuit, which plain weights need millions of tokens to find.

    Head 0 of layer 0 looks one token back and notes what it saw; heads 0 and 1 of layer 1 look for
    a token that followed the present one before, and vote for it. Training is free to change it.
    """
    config, layers = model.config, model.model.layers
    size, width = config.head_dim, config.initializer_range
    half = size // 2  # dimension i turns with dimension i + half, fast for small i
    for layer in layers:  # quiet, or the rest would drown the circuit
        layer.self_attn.o_proj.weight *= 0.1
        layer.mlp.down_proj.weight *= 0.1
    model.model.embed_tokens.weight[:, 0] = 4 * width  # the same for every token
    constant = 4 / math.sqrt(1 + 16 / config.hidden_size)  # its value after the norm
    square = torch.linalg.qr(torch.randn(config.hidden_size - 1, config.hidden_size - 1))[0]
    rows = torch.cat([torch.zeros(len(square), 1), square], 1)  # blind to the constant
    seen, noted, said = rows[:size], rows[size : 2 * size], rows[2 * size : 3 * size]

    first, gain = layers[0].self_attn, math.sqrt(10 * math.sqrt(size)) / constant
    turn = config.rope_parameters["rope_theta"] ** (-torch.arange(4) / half)
    first.q_proj.weight[:size] *= 0.1
    first.k_proj.weight[:size] *= 0.1
    first.q_proj.weight[:4, 0] = gain
    first.k_proj.weight[:4, 0] = gain * turn.cos()
    first.k_proj.weight[half : half + 4, 0] = gain * turn.sin()
    first.v_proj.weight[:size] = seen
    first.o_proj.weight[:, :size] = 2 * width * noted.T

    second = layers[1].self_attn
    slow = (torch.arange(size) % half >= 6).float()[:, None]
    for head, value in enumerate((seen, said)):
        its = slice(head * size, (head + 1) * size)
        second.q_proj.weight[its] = 3 * slow * seen
        second.k_proj.weight[its] = 3 * slow * noted
        second.v_proj.weight[its] = value
        second.o_proj.weight[:, its] = 2 * width * value.T


def windows(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[list[int]]:
    """Pack documents, each after a <s>, into windows of WINDOW tokens without padding."""
    stream: list[int] = []
    documents = pretraining_text.documents(seed)
    while True:
        block = list(itertools.islice(documents, 256))
        for ids in tokenizer(block, add_special_tokens=False)["input_ids"]:
            stream += [tokenizer.bos_token_id, *ids]
        full = len(stream) // WINDOW * WINDOW
        yield from (stream[i : i + WINDOW] for i in range(0, full, WINDOW))
        stream = stream[full:]


def token_weights(batch: Any, opening: list[int], end: int) -> Any:
    """Weigh an assistant's words and the end of its turn 1, all else PROMPT_WEIGHT.

    batch: (B, T) token ids; `opening` is how an assistant's turn starts.
    """
    place = torch.arange(batch.shape[1]).expand_as(batch)  # (B, T)
    opens = torch.ones_like(batch, dtype=torch.bool)
    for back, token in enumerate(reversed(opening)):
        opens &= batch.roll(back, 1) == token
    opens[:, : len(opening) - 1] = False
    opened = torch.where(opens, place, -1).cummax(1).values
    ended = torch.where(batch == end, place, -1).cummax(1).values.roll(1, 1)
    ended[:, 0] = -1
    return torch.where((opened > ended) & ~opens, 1.0, PROMPT_WEIGHT)


def learning_rate(step: int, steps: int) -> float:
    """Return the share of the peak: a line up, then a cosine down to a hundredth."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def optimizers(model: Any) -> list[Any]:
    """Muon for the layers' matrices (saves about a third of the tokens), AdamW for the rest."""
    named = [*model.named_parameters()]
    inner = [p for name, p in named if p.dim() == 2 and "embed" not in name]
    inner_ids = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in inner_ids]
    return [
        torch.optim.Muon(inner, lr=MUON_LR, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(rest, lr=ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def pretrain(out: Path, tokens: int, seed: int, save_every: int = 500) -> dict[str, float]:
    """Train tokenizer and model, write both to `out`, return the measured numbers."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    sample = itertools.islice(pretraining_text.documents(seed + 1), TOKENIZER_DOCUMENTS)
    tokenizer = train_tokenizer(sample)
    model = build_model(tokenizer).train()
    steppers = optimizers(model)
    peaks = [stepper.param_groups[0]["lr"] for stepper in steppers]
    steps = max(1, tokens // (WINDOW * BATCH))
    done, seconds, loss_mean = 0, 0.0, 0.0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for stepper, saved in zip(steppers, state["optimizers"], strict=True):
            stepper.load_state_dict(saved)
        done, seconds, loss_mean = state["step"], state["seconds"], state["loss"]
    stream = itertools.islice(windows(tokenizer, seed), done * BATCH, None)
    opening = tokenizer("<|im_start|>assistant", add_special_tokens=False)["input_ids"]
    began = time.perf_counter() - seconds
    for step in range(done, steps):
        batch = torch.tensor(list(itertools.islice(stream, BATCH)))  # (BATCH, WINDOW)
        weights = token_weights(batch, opening, tokenizer.eos_token_id)[:, 1:]
        logits = model(input_ids=batch).logits[:, :-1]  # (BATCH, WINDOW - 1, VOCABULARY)
        losses = functional.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper, peak in zip(steppers, peaks, strict=True):
            for group in stepper.param_groups:
                group["lr"] = peak * learning_rate(step, steps)
            stepper.step()
            stepper.zero_grad()
        loss_mean = loss.item() if step == 0 else 0.98 * loss_mean + 0.02 * loss.item()
        seconds = time.perf_counter() - began
        if (step + 1) % 50 == 0 or step + 1 == steps:
            _report(step + 1, steps, seconds, loss_mean)
        if (step + 1) % save_every == 0:
            state = {"model": model.state_dict(), "step": step + 1, "seconds": seconds}
            state |= {"loss": loss_mean, "optimizers": [s.state_dict() for s in steppers]}
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    save(model, tokenizer, out)
    checkpoint.unlink(missing_ok=True)
    size = sum(p.numel() for p in model.parameters())
    seen = steps * WINDOW * BATCH
    return {"parameters": size, "tokens": seen, "seconds": round(seconds, 1), "loss": loss_mean}


def _report(done: int, steps: int, seconds: float, loss: float) -> None:
    tokens = done * WINDOW * BATCH
    print(
        f"step {done}/{steps}  {tokens / 1e6:.2f} M tokens  loss {loss:.3f}  "
        f"{tokens / seconds:,.0f} tokens/s  {seconds:.0f} s",
        flush=True,
    )


def save(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the model in 16 bits, its tokenizer and its generation defaults."""
    model.generation_config.update(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=64,
    )
    model.to(torch.float16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)


def main(argv: list[str] | None = None) -> None:
    """Read the options, train, print the measured numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="tokens to train on")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the text")
    options = parser.parse_args(argv)
    print(json.dumps(pretrain(options.out, options.tokens, options.seed)))


if __name__ == "__main__":
    main()
