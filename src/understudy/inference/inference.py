"""Stage inference: K sampled answers of the local model to each prompt of a split.

reads   `split` (the rows whose split is params["split"]) and, unless the base model itself is
        asked, `finetune` (its model/)
writes  rows.jsonl of records.Answer; `tokens` counts the text's, without the stop token

Batches are cut once from the full list, sorted by prompt length, and a batch is recomputed whole
on resume, so at equal batch size and thread count the bytes are always the same.

`inference.engine` samples: transformers in this process (`generation.py`), or vLLM beside it.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from understudy.config import Config, Inference
from understudy.errors import BadInput
from understudy.inference import vllm
from understudy.models import load
from understudy.records import Answer, Coverage
from understudy.store.artifacts import Job, RowLog
from understudy.store.progress import track

if TYPE_CHECKING:
    from understudy.inference.generate import Generated, Sampling

_log = logging.getLogger(__name__)


class Prompt(NamedTuple):
    """A row with its prompt's tokens."""

    row: Coverage
    ids: tuple[int, ...]


class Request(NamedTuple):
    """One sampling: of the k-th answer or, when greedy, of all the answers to a prompt."""

    prompt: Prompt
    ks: tuple[int, ...]


def run(job: Job, dtype: Any = None) -> None:
    """Cut batches, generate, write each as it comes; `dtype` is for tests in double precision."""
    settings, model = job.config.inference, job.config.model
    load.quiet()
    load.use_threads(job.config.cluster.threads)
    finetuned = job.inputs["finetune"] / "model" if "finetune" in job.inputs else None
    tokenizer = load.tokenizer(model, finetuned)
    prompts = _prompts(job, tokenizer)
    longest = model.context - settings.max_new_tokens
    log = RowLog(job.out, Answer)
    for prompt in prompts:
        if len(prompt.ids) > longest:
            _write(log, _answers(job, Request(prompt, tuple(range(settings.k))), "too_long"))
    batches = cut([prompt for prompt in prompts if len(prompt.ids) <= longest], settings)
    todo = [
        batch
        for batch in batches
        if any(row.key not in log.rows for one in batch for row in _answers(job, one, ""))
    ]
    if todo:
        with _engine(job, tokenizer, finetuned, todo, dtype or load.dtype()) as results:
            _log_results(job, log, todo, results)
    _note(job, log.finish())


def _prompts(job: Job, tokenizer: Any) -> list[Prompt]:
    """The prompts of the split, short ones first."""
    split = job.params["split"]
    rows = [row for row in job.rows("split", Coverage) if row.split == split]
    if not rows:
        raise BadInput(f"the {split} split is empty: raise coverage.split.{split}")
    prompts = [
        Prompt(
            row,
            tuple(load.chat_ids(tokenizer, row.prompt, row.id, add_generation_prompt=True)),
        )
        for row in rows
    ]
    return sorted(prompts, key=lambda prompt: (len(prompt.ids), prompt.row.id))


def cut(prompts: list[Prompt], settings: Inference) -> list[list[Request]]:
    """All that is to be sampled, in batches; greedy answers to a prompt are equal, so one is."""
    if settings.temperature == 0:
        groups = [tuple(range(settings.k))]
    else:
        groups = [(k,) for k in range(settings.k)]
    requests = [Request(prompt, ks) for prompt in prompts for ks in groups]
    size = settings.batch_size
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _engine(
    job: Job, tokenizer: Any, finetuned: Path | None, batches: list[list[Request]], kind: Any
) -> "AbstractContextManager[Iterator[list[Generated]]]":
    """Load the model; what it answers, batch after batch."""
    from understudy.inference.generate import Wanted, generate

    model = job.config.model
    wanted = [
        [Wanted(one.prompt.row.id, one.ks[0], one.prompt.ids) for one in batch] for batch in batches
    ]
    if job.config.inference.engine == "vllm":
        if finetuned is None or load.is_adapter(finetuned):
            own = _own_ends(load.directory(model))
        else:
            own = _own_ends(finetuned)
        sampling = sampling_of(job.config, own, tokenizer)
        return vllm.results(job, tokenizer, finetuned, wanted, sampling, kind)
    loaded = load.base(model, kind) if finetuned is None else load.finetuned(model, finetuned, kind)
    sampling = sampling_of(job.config, loaded.generation_config.eos_token_id, tokenizer)
    job.notes["engine"] = f"transformers {version('transformers')}"
    return nullcontext(generate(loaded, tokenizer, batch, sampling) for batch in wanted)


def _own_ends(path: Path) -> Any:
    """The tokens at which a model that is not loaded ends: an id, several, or None."""
    from transformers import AutoConfig, GenerationConfig

    if (path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(path).eos_token_id
    return AutoConfig.from_pretrained(path).eos_token_id


def _log_results(
    job: Job,
    log: RowLog[Answer],
    batches: list[list[Request]],
    results: "Iterator[list[Generated]]",
) -> None:
    """Write each batch as it comes; it is in the log before the next begins."""
    began, tokens = time.monotonic(), 0
    with track("inference", sum(map(len, batches)), "answers") as advance:
        for batch, made in zip(batches, results, strict=True):
            for one, got in zip(batch, made, strict=True):
                finish = "stop" if got.is_stopped else "length"
                _write(log, _answers(job, one, finish, got.text, len(got.tokens)))
                tokens += len(got.tokens)
            rate = tokens / (time.monotonic() - began)
            advance(len(batch), f"{rate:.0f} tokens/s")
    job.notes["seconds"] = round(time.monotonic() - began, 1)
    job.notes["tokens_per_second"] = round(rate, 1)


def sampling_of(config: Config, own: Any, tokenizer: Any) -> "Sampling":
    """How to sample: stop strings that are one token, and the model's own, stop by id."""
    from understudy.inference.generate import Sampling

    stops = {text: load.single_token(tokenizer, text) for text in config.model.stop}
    ids = {tokenizer.eos_token_id, *stops.values(), *(own if isinstance(own, list) else [own])}
    return Sampling(
        seed=config.seed,
        temperature=config.inference.temperature,
        max_new_tokens=config.inference.max_new_tokens,
        stop_ids=frozenset(ids - {None}),
        stop_texts=tuple(text for text, token in stops.items() if token is None),
    )


def _answers(
    job: Job, request: Request, finish: str, text: str = "", tokens: int = 0
) -> list[Answer]:
    """The rows of one sampling."""
    row = request.prompt.row
    return [
        Answer(
            prompt_id=row.id,
            group_id=row.group_id,
            k=k,
            text=text,
            tokens=tokens,
            finish=finish,
            generator=job.params["generator"],
            family=job.config.model.family,
        )
        for k in request.ks
    ]


def _write(log: RowLog[Answer], answers: Iterable[Answer]) -> None:
    """Append what a crash in the midst of a batch has not left there already."""
    log.append(answer for answer in answers if answer.key not in log.rows)


def _note(job: Job, answers: list[Answer]) -> None:
    """Count the answers that did not end by themselves."""
    settings = job.config.inference
    for finish in ("length", "too_long"):
        job.notes[finish] = sum(answer.finish == finish for answer in answers)
    _log.info(
        "%d answers: %d cut off at inference.max_new_tokens=%d; %d to prompts that leave less "
        "than that of model.context=%d, which are too long",
        len(answers),
        job.notes["length"],
        settings.max_new_tokens,
        job.notes["too_long"],
        job.config.model.context,
    )
    if settings.temperature == 0 and settings.k > 1:
        _log.info("inference.temperature=0: the %d answers to a prompt are equal", settings.k)
