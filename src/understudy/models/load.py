"""Load a base model, its fine-tuned form and their tokenizer, from a directory or the hub.

torch and transformers are imported inside the functions: they cost seconds.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy import locations
from understudy.config import ModelConfig, TrainerConfig
from understudy.errors import BadInput, EnvironmentFailed, UnderstudyError, from_system
from understudy.models import ranks, tokens
from understudy.prompts import chat
from understudy.records import Message, Tool
from understudy.store import hub


def quiet() -> None:
    """Keep the libraries from asking the hub, printing and drawing bars; call before loading."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # names are resolved in `directory`, nowhere else
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # an installed deepspeed warns without it
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    # PEFT 0.21 asks transformers 5.23 by the old name; nothing of ours uses it.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def use_threads(count: int) -> None:
    """Compute with this many threads: results are byte-equal at equal thread counts only."""
    import torch

    torch.set_num_threads(count)


def device() -> Any:
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype() -> Any:
    """What weights are loaded as: bf16 on a GPU; on a CPU fp32, where bf16 is nine times slower."""
    import torch

    return torch.bfloat16 if device().type == "cuda" else torch.float32


def dtype_name(dtype: Any) -> str:
    """`float32`, not `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def precision(wanted: str) -> str:
    """The `trainer.precision` that is computed in: auto is bf16 on a GPU, fp32 on a CPU."""
    if wanted != "auto":
        return wanted
    return "bf16" if device().type == "cuda" else "fp32"


def frozen_precision(wanted: str) -> Any:
    """What weights that are not trained are kept in: that of the computation."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision(wanted)]


def full_precision() -> Any:
    """What weights that are trained themselves are kept in: bf16 ones swallow small updates."""
    import torch

    return torch.float32


def directory(model: ModelConfig) -> Path:
    """Where the base model's files are, downloading them first if they are on the hub only."""
    if model.path is not None:
        path = locations.model(model.path)
        if not (path / "config.json").is_file():
            raise BadInput(
                f"model.path={model.path} is no model directory: {path}/config.json does not exist"
            )
        return path
    if model.repo is None:
        raise BadInput(f"model={model.name} has neither model.path nor model.repo; give one")
    return _from_hub(model.repo, model.revision, model.name)


def _from_hub(repo: str, revision: str | None, name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    reachable = hub.answers(constants.ENDPOINT)
    # Read by the client at every request, unlike the environment variable, which is read once.
    constants.HF_HUB_OFFLINE = not reachable
    place = f"model={name} ({repo}@{revision or 'main'})"
    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                endpoint=constants.ENDPOINT,
                local_files_only=not reachable,
                ignore_patterns=["*.bin", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*"],
            )
        )
    except LocalEntryNotFoundError:
        raise BadInput(
            f"{place} is not in the local cache and the hub cannot be reached; "
            "download it where there is a network, or give model.path"
        ) from None
    except GatedRepoError:
        raise BadInput(
            f"{place} is gated: accept its terms on {constants.ENDPOINT}/{repo} and log in "
            "with `hf auth login`"
        ) from None
    except HfHubHTTPError as error:
        raise BadInput(f"{place} cannot be had from the hub: {_first_line(error)}") from None
    finally:
        constants.HF_HUB_OFFLINE = True


def tokenizer(model: ModelConfig, finetuned: Path | None = None) -> Any:
    """The tokenizer with our chat template and new tokens, as saved with a fine-tuned model."""
    from transformers import AutoTokenizer

    path = finetuned or directory(model)
    try:
        loaded = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise _as_input(error, model, path) from error
    if finetuned is None:
        if model.chat_template is not None:
            template = locations.chat_template(model.chat_template)
            loaded.chat_template = template.read_text(encoding="utf-8")
        loaded.add_tokens(list(model.new_tokens), special_tokens=True)
    if loaded.chat_template is None:
        raise BadInput(f"model={model.name} has no chat template; choose an instruction-tuned one")
    return loaded


def base(model: ModelConfig, kind: Any, recipe: TrainerConfig | None = None) -> Any:
    """The base model as dtype `kind`, on the device; `recipe` is that of a training to come."""
    loaded = _load(directory(model), model, kind, recipe)
    if model.new_tokens:
        tokens.add(loaded, tokenizer(model), model.new_tokens)
    return loaded


def finetuned(model: ModelConfig, path: Path | None, kind: Any) -> Any:
    """The fine-tuned model in `path`, an adapter merged into its base; without it, the base."""
    if path is None:
        return base(model, kind)
    if is_adapter(path):
        loaded = adapted(base(model, kind), model, path, is_trainable=False)
        tokens.untie_if_adapted(loaded.get_base_model())
        return loaded.merge_and_unload()
    return _load(path, model, kind, None)


def adapted(loaded_base: Any, model: ModelConfig, path: Path, is_trainable: bool) -> Any:
    """The loaded base of `model` with the adapter in `path` on top."""
    from peft import PeftModel

    loaded = PeftModel.from_pretrained(loaded_base, path, is_trainable=is_trainable)
    # PEFT looks up the base by this name when it saves; ours is a name, not a place.
    loaded.peft_config["default"].base_model_name_or_path = str(directory(model))
    return loaded


def is_adapter(path: Path) -> bool:
    """Whether the directory holds a PEFT adapter, not a whole model."""
    return (path / "adapter_config.json").is_file()


def own_files(model: ModelConfig, finetuned: Path | None) -> Path:
    """The directory of the whole model that is asked: the base's where an adapter is on top."""
    return directory(model) if finetuned is None or is_adapter(finetuned) else finetuned


def generation_defaults(path: Path) -> Any:
    """The generation defaults in the directory of a model, or those of the model's config."""
    from transformers import AutoConfig, GenerationConfig

    if (path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(path, local_files_only=True)
    return GenerationConfig.from_model_config(AutoConfig.from_pretrained(path))


def _load(path: Path, model: ModelConfig, kind: Any, recipe: TrainerConfig | None) -> Any:
    from transformers import AutoModelForCausalLM

    how: dict[str, Any] = {"dtype": kind, "local_files_only": True}
    if recipe is not None and recipe.attention != "sdpa":  # the library's own choice where it can
        how["attn_implementation"] = recipe.attention
    is_quantized = recipe is not None and recipe.quantization == "nf4"
    if is_quantized:
        import torch

        place = {"": torch.cuda.current_device()}  # this process's; the weights cannot be moved
        how |= {"quantization_config": _nf4(kind), "device_map": place}
    how |= {"output_loading_info": True, "trust_remote_code": False}
    try:
        loaded, told = AutoModelForCausalLM.from_pretrained(path, **how)
    except Exception as error:
        raise _as_input(error, model, path) from error
    if is_quantized:
        return loaded
    if not ranks.shards_weights():
        _check_weights(loaded, told["missing_keys"], model, path)
    return loaded.to("cpu" if ranks.shards_weights() else device())


def _check_weights(loaded: Any, missing: Any, model: ModelConfig, path: Path) -> None:
    """Raise BadInput for weights that were made up, or that hold no numbers."""
    import torch

    if missing:
        raise BadInput(
            f"model={model.name}: {path} lacks weights that its config.json asks for, such as "
            f"{min(missing)}; a file is missing, or the config is that of another model"
        )
    for name, weight in loaded.named_parameters():
        if not torch.isfinite(weight.sum(dtype=torch.float64)):
            raise BadInput(
                f"model={model.name}: {name} in {path} holds values that are no numbers; fetch "
                "the model again, or lower trainer.lr where it comes from a training of yours"
            )


def _as_input(error: Exception, model: ModelConfig, path: Path) -> Exception:
    """Say which model cannot be read; what the machine lacks keeps its own words."""
    if isinstance(error, ImportError):
        words = f"model={model.name} cannot be loaded from {path}: {_first_line(error)}"
        return EnvironmentFailed(words)
    if isinstance(error, UnderstudyError) or from_system(error, path):
        return error
    why = f"{type(error).__name__}: {_first_line(error)}"
    if "trust_remote_code" in str(error):
        why = "it brings code of its own, which understudy does not run; choose one without"
    return BadInput(f"model={model.name} cannot be loaded from {path}: {why}")


def _nf4(computed_in: Any) -> Any:
    """4-bit NormalFloat weights without double quantisation (QLoRA, arXiv 2305.14314, 3)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=computed_in
    )


def chat_ids(
    tokenizer: Any,
    messages: list[Message],
    name: str,
    *,
    add_generation_prompt: bool,
    tools: list[Tool] | None = None,
) -> list[int]:
    """The messages, and the tools on offer, as tokens in the model's chat template."""
    from jinja2 import TemplateError

    said = chat.rendered(tokenizer.chat_template, messages, tools)
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            said.messages,
            tools=said.tools,
            add_generation_prompt=add_generation_prompt,
            tokenize=True,
            return_dict=False,
        )
    except TemplateError as error:
        raise BadInput(f"the chat template refuses row {name}: {error}") from None
    return ids


def counter(tokenizer: Any, tools: list[Tool] | None = None) -> Callable[[list[Message]], int]:
    """What counts the tokens of a conversation; an open one ends in the header of its answer."""

    def count(messages: list[Message]) -> int:
        is_open = messages[-1]["role"] != "assistant"
        ids = chat_ids(tokenizer, messages, "", add_generation_prompt=is_open, tools=tools)
        return len(ids)

    return count


def stop_id(tokenizer: Any, model: ModelConfig) -> int:
    """The token that ends an assistant's turn: the first of `model.stop`."""
    token = single_token(tokenizer, model.stop[0]) if model.stop else None
    if token is None:
        raise BadInput(
            f"model.stop={model.stop} must begin with the single token that ends a turn in the "
            f"chat template of model={model.name}"
        )
    return token


def single_token(tokenizer: Any, text: str) -> int | None:
    """The id of a special token; other strings may be written with several different tokens."""
    known: int | None = tokenizer.get_added_vocab().get(text)
    return known


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
