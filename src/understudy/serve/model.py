"""What is served: the model of a run, or of a directory with a model's files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data.shots import Shots
from understudy.errors import BadInput, EnvironmentFailed
from understudy.inference import stage
from understudy.models import gguf, tokens
from understudy.models import load as local_model

if TYPE_CHECKING:
    from understudy.pipeline.chosen import Chosen


@dataclass(frozen=True)
class Served:
    """A model that is not loaded yet, and all that its prompts and answers need."""

    name: str
    tokenizer: Any
    context: int  # tokens of prompt and answer
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...]
    temperature: float  # where a request gives none: that of the answers that were judged
    load: Callable[[Any], Any]  # dtype -> the model, on the device
    directory: Path | None  # with the whole model's files; None = an adapter
    first: Shots | None = None  # what is shown before every prompt


def of_run(chosen: "Chosen") -> Served:
    """The model of a run's round, as it was judged."""
    local_model.quiet()
    model = gguf.dequantized(chosen.config, chosen.run.root).model
    finetuned = chosen.finetuned
    is_adapter = finetuned is not None and local_model.is_adapter(finetuned)
    own = local_model.own_files(model, finetuned)
    tokenizer = local_model.tokenizer(model, finetuned)
    sampling = stage.sampling_of(
        chosen.config, local_model.generation_defaults(own).eos_token_id, tokenizer
    )

    return Served(
        chosen.run.name,
        tokenizer,
        model.context,
        sampling.stop_ids,
        sampling.stop_texts,
        sampling.temperature,
        lambda kind: local_model.finetuned(model, finetuned, kind),
        None if is_adapter or model.new_tokens else own,
        Shots.read(chosen.stage("inference").out),
    )


def of_directory(path: Path) -> Served:
    """A model's own files, as `understudy export` or `save_pretrained` writes them."""
    local_model.quiet()
    from transformers import AutoConfig, AutoTokenizer

    is_adapter = local_model.is_adapter(path)
    base = _base_of(path) if is_adapter else path
    try:
        config = AutoConfig.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError) as error:
        why = _first_line(error).partition(", or contain")[0]  # a list of all models follows
        raise BadInput(f"{base} has no config that transformers can read: {why}") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} has no tokenizer: {_first_line(error)}") from None
    if tokenizer.chat_template is None:
        raise BadInput(f"{path} has no chat template; serve an instruction-tuned model")
    generation = local_model.generation_defaults(
        path if (path / "generation_config.json").is_file() else base
    )
    own = generation.eos_token_id
    ids = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])}
    text_config = config.get_text_config()
    longest = getattr(text_config, "max_position_embeddings", None) or tokenizer.model_max_length

    def load(kind: Any) -> Any:
        return _load(base, path if is_adapter else None, kind)

    return Served(
        path.resolve().name,
        tokenizer,
        int(min(longest, tokenizer.model_max_length)),
        frozenset(ids - {None}),
        tuple(generation.stop_strings or ()),
        _temperature(generation),
        load,
        None if is_adapter else path,
        Shots.read(path),
    )


def _base_of(adapter: Path) -> Path:
    """The base model that an adapter's config names: a directory, or in the local cache."""
    from huggingface_hub import snapshot_download
    from peft import PeftConfig

    named = PeftConfig.from_pretrained(adapter)
    name = str(named.base_model_name_or_path)
    if (Path(name) / "config.json").is_file():
        return Path(name)
    try:
        return Path(snapshot_download(name, revision=named.revision, local_files_only=True))
    except (OSError, ValueError):
        raise BadInput(
            f"{adapter} is an adapter of {name}, which is neither a directory nor in the local "
            "cache; serve the run itself, or export it with export.what=merged"
        ) from None


def _load(base: Path, adapter: Path | None, kind: Any) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=kind, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise EnvironmentFailed(f"{base} cannot be loaded: {_first_line(error)}") from error
    if adapter is not None:
        adapted = PeftModel.from_pretrained(model, adapter)
        tokens.untie_if_adapted(adapted.get_base_model())
        model = adapted.merge_and_unload()
    return model.to(local_model.device())


def _temperature(generation: Any) -> float:
    if generation.do_sample is False:  # None = nobody said
        return 0.0
    return 1.0 if generation.temperature is None else float(generation.temperature)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
