"""Stands in for vLLM, which needs a GPU: what our worker calls of it, over transformers.

Names and arguments are those of vLLM 0.33.0; an argument that it does not have is a TypeError.
Like vLLM, it seeds each request by itself, leaves the stop token among the tokens, and refuses
an adapter with anything but LoRA matrices. Unlike it, it samples one request after the other.
"""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from vllm.lora.request import LoRARequest

__version__ = "0.33.0+stand.in"


class TokensPrompt(TypedDict):
    prompt_token_ids: list[int]


@dataclass(kw_only=True)
class SamplingParams:
    temperature: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16


@dataclass
class CompletionOutput:
    text: str
    token_ids: list[int]
    finish_reason: str


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]


class LLM:
    def __init__(
        self,
        model: str,
        *,
        tokenizer: str,
        dtype: str = "auto",
        seed: int = 0,
        max_model_len: int,
        generation_config: str = "auto",
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
    ) -> None:
        print("INFO a line on stdout, as vLLM writes many")
        assert generation_config == "vllm"
        assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        if enable_lora and max_lora_rank not in (1, 8, 16, 32, 64, 128, 256, 320, 512):
            raise ValueError(f"max_lora_rank={max_lora_rank}")
        # Faults that a test asks for: too small a GPU, or death before a batch.
        fault = Path(model).parent / "fault.json"
        self.fault = json.loads(fault.read_text()) if fault.is_file() else {}
        if self.fault.get("memory"):
            raise RuntimeError("CUDA out of memory. Tried to allocate 16.00 GiB.")
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM

        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
        self.tokenizer = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
        self.most, self.max_lora_rank, self.adapted = max_model_len, max_lora_rank, False
        self.is_lora = enable_lora

    def reset_prefix_cache(self) -> bool:
        return True

    def generate(
        self,
        prompts: list[TokensPrompt],
        sampling_params: list[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        if "batches" in self.fault:
            if self.fault["batches"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.fault["batches"] -= 1
        if lora_request is not None and not self.adapted:
            assert self.is_lora
            self._load(Path(lora_request.lora_path))
        return [self._one(p, s) for p, s in zip(prompts, sampling_params, strict=True)]

    def _load(self, path: Path) -> None:
        from peft import PeftModel
        from safetensors import safe_open

        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.max_lora_rank:
            raise ValueError(f"LoRA rank {rank} is greater than max_lora_rank")
        with safe_open(path / "adapter_model.safetensors", framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name.split(".")[-2] not in ("lora_A", "lora_B"):
                    raise ValueError(f"{name} is unsupported LoRA weight")
        self.model = PeftModel.from_pretrained(self.model, path).eval()
        self.adapted = True

    def _one(self, prompt: TokensPrompt, how: SamplingParams) -> RequestOutput:
        import torch

        ids, made, text = list(prompt["prompt_token_ids"]), [], ""
        random = torch.Generator().manual_seed(how.seed or 0)
        assert how.max_tokens is not None
        assert len(ids) + how.max_tokens <= self.most
        while len(made) < how.max_tokens:
            with torch.inference_mode():
                logits = self.model(input_ids=torch.tensor([ids + made])).logits[0, -1].float()
            if how.temperature == 0:
                token = int(logits.argmax())
            else:
                chances = (logits / how.temperature).softmax(dim=-1)
                token = int(torch.multinomial(chances, 1, generator=random))
            made.append(token)
            if token in (how.stop_token_ids or ()):
                return _output(text, made, "stop")
            text = self.tokenizer.decode(made)
            if any(stop in text for stop in how.stop or ()):
                return _output(text, made, "stop")
        return _output(text, made, "length")


def _output(text: str, tokens: list[int], finish: str) -> RequestOutput:
    return RequestOutput([CompletionOutput(text, tokens, finish)])
