"""Stage inference: K sampled answers of the local model to each prompt of a split.

reads   `split` (the rows whose split is params["split"]; those of `prompts` where that is given)
        and, unless the base model itself is asked, `finetune` (its model/)
writes  rows.jsonl of records.Answer; `tokens` counts the text's, without the stop token

Batches are cut once from the full list, sorted by prompt length, and a batch is recomputed whole
on resume, so at equal batch size and thread count the bytes are always the same.

`inference.engine` samples: transformers in this process (`decode.py`), or vLLM beside it.
"""

import logging
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from understudy.config import Config
from understudy.data import shots
from understudy.errors import BadInput
from understudy.inference import Generated, PromptSample, Sampling, vllm
from understudy.models import load
from understudy.prompts import chat
from understudy.records import Answer, Coverage, ToolCall
from understudy.store.artifacts import Job, RowLog
from understudy.store.progress import track

_log = logging.getLogger(__name__)


def run(job: Job, dtype: Any = None) -> None:
    """Cut batches, generate, write each as it comes; `dtype` is for tests in double precision."""
    settings, model = job.config.inference, job.config.model
    load.quiet()
    load.use_threads(job.config.cluster.threads)
    finetuned = job.inputs["finetune"] / "model" if "finetune" in job.inputs else None
    tokenizer = load.tokenizer(model, finetuned)
    samples = _samples(job, tokenizer)
    longest = model.context - settings.max_new_tokens
    log = RowLog(job.out, Answer)
    for one in samples:
        if len(one.ids) > longest:
            _write(job, log, one, "too_long")
    fitting, size = [one for one in samples if len(one.ids) <= longest], settings.batch_size
    batches = [fitting[start : start + size] for start in range(0, len(fitting), size)]
    todo = [
        batch
        for batch in batches
        if any(row.key not in log.rows for one in batch for row in _answers(job, one, ""))
    ]
    if todo:
        with _engine(job, tokenizer, finetuned, todo, dtype or load.dtype()) as results:
            _log_results(job, log, tokenizer.chat_template, todo, results)
    _note(job, log.finish())


def _samples(job: Job, tokenizer: Any) -> list[PromptSample]:
    """All that is to be sampled, short prompts first; greedy answers are equal, so one is."""
    split, settings = job.params["split"], job.config.inference
    every = job.rows("split", Coverage)
    asked = job.rows("prompts", Coverage) if "prompts" in job.inputs else every
    rows = [row for row in asked if row.split == split]
    if not rows:
        raise BadInput(f"the {split} split is empty: raise coverage.split.{split}")
    groups: list[tuple[int, ...]] = [(k,) for k in range(settings.k)]
    if settings.temperature == 0:
        groups = [tuple(range(settings.k))]
    first = shots.of(job.config, every)
    if first is not None:
        first.write(job.out)  # serve and export show these, whatever becomes of the user's file
    samples = []
    for row in rows:
        prompt = row.prompt
        if first is not None:
            prompt = first.before(prompt, load.counter(tokenizer, row.tools), row.group_id)
        ids = load.chat_ids(tokenizer, prompt, row.id, add_generation_prompt=True, tools=row.tools)
        tools = tuple(row.tools or ()) if chat.has_tools(prompt, row.tools) else None
        samples += [PromptSample(row.id, row.group_id, tuple(ids), ks, tools) for ks in groups]
    return sorted(samples, key=lambda one: (len(one.ids), one.prompt_id, one.ks))


def _engine(
    job: Job, tokenizer: Any, finetuned: Path | None, batches: list[list[PromptSample]], kind: Any
) -> AbstractContextManager[Iterator[list[Generated]]]:
    """Load the model; what it answers, batch after batch."""
    model = job.config.model
    if job.config.inference.engine == "vllm":
        own = load.generation_defaults(load.own_files(model, finetuned))
        sampling = sampling_of(job.config, own.eos_token_id, tokenizer)
        return vllm.results(job, tokenizer, finetuned, batches, sampling, kind)
    from understudy.inference.decode import generate

    loaded = load.finetuned(model, finetuned, kind)
    sampling = sampling_of(job.config, loaded.generation_config.eos_token_id, tokenizer)
    job.notes["engine"] = f"transformers {version('transformers')}"
    return nullcontext(generate(loaded, tokenizer, batch, sampling) for batch in batches)


def _log_results(
    job: Job,
    log: RowLog[Answer],
    template: str,
    batches: list[list[PromptSample]],
    results: Iterator[list[Generated]],
) -> None:
    """Write each batch as it comes; it is in the log before the next begins."""
    began, tokens, waited = time.monotonic(), 0, list[float]()
    with track("inference", sum(map(len, batches)), "answers") as advance:
        last = began
        for batch, made in zip(batches, results, strict=True):
            waited += [time.monotonic() - last] * sum(len(one.ks) for one in batch)
            for one, got in zip(batch, made, strict=True):
                finish, said = "stop" if got.is_stopped else "length", chat.Heard(got.text, [])
                if one.tools is not None and got.is_stopped:
                    said = chat.heard(template, got.text, one.tools)
                    finish = "tool_calls" if said.calls else finish
                _write(job, log, one, finish, said.text, len(got.tokens), said.calls)
                tokens += len(got.tokens)
            rate = tokens / (time.monotonic() - began)
            advance(len(batch), f"{rate:.0f} tokens/s")
            last = time.monotonic()
    job.notes["seconds"] = round(time.monotonic() - began, 1)
    job.notes["tokens_per_second"] = round(rate, 1)
    # An answer is there when its whole batch is; nobody who waits for one would batch as much.
    p50, p95 = statistics.median(waited), sorted(waited)[math.ceil(0.95 * len(waited)) - 1]
    of = f"{len(waited)} answers in batches of {job.config.inference.batch_size}"
    job.notes["latency_s"] = {"p50": round(p50, 3), "p95": round(p95, 3), "of": of}


def sampling_of(config: Config, own: Any, tokenizer: Any) -> Sampling:
    """How to sample: stop strings that are one token, and the model's own, stop by id."""
    stops = {text: load.single_token(tokenizer, text) for text in config.model.stop}
    ids = {tokenizer.eos_token_id, *stops.values(), *(own if isinstance(own, list) else [own])}
    return Sampling(
        seed=config.seed,
        temperature=config.inference.temperature,
        max_new_tokens=config.inference.max_new_tokens,
        stop_ids=frozenset(ids - {None}),
        stop_texts=tuple(text for text, token in stops.items() if token is None),
        shares_start=config.inference.shared_start,
    )


def _answers(
    job: Job,
    sample: PromptSample,
    finish: str,
    text: str = "",
    tokens: int = 0,
    calls: list[ToolCall] | None = None,
) -> list[Answer]:
    """The rows of one sampling."""
    return [
        Answer(
            prompt_id=sample.prompt_id,
            group_id=sample.group_id,
            k=k,
            text=text,
            tokens=tokens,
            finish=finish,
            generator=job.params["generator"],
            family=job.config.model.family,
            tool_calls=calls or None,
        )
        for k in sample.ks
    ]


def _write(job: Job, log: RowLog[Answer], *one: Any) -> None:
    """Append what a crash in the midst of a batch has not left there already."""
    log.append(answer for answer in _answers(job, *one) if answer.key not in log.rows)


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
