"""The parity check: measure the judged model, then the exported files, then their server.

Measured are how a model reads prompts, where it stops, and the logits of its first tokens:
KL(judged ‖ exported) = Σ p (log p - log q) over the whole vocabulary, in double precision, at each
of the first tokens of the judged model's greedy answer, which both models are given.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from understudy.config import Config
from understudy.data.shots import Shots
from understudy.errors import BadInput
from understudy.export import parity, server
from understudy.export.parity import TOP, Distance, Greedy, Reading, Report, Stops
from understudy.inference import PromptSample, Sampling, stage
from understudy.models import load
from understudy.prompts import chat
from understudy.records import Coverage, read_rows, written

_SHORTER = {"float32": ("bfloat16", "float16"), "float16": (), "bfloat16": ()}


class JudgedAnswer(NamedTuple):
    """One greedy answer of the judged model."""

    text: str
    is_stopped: bool  # else it was cut off
    tokens: tuple[int, ...]  # the first ones, a stop token included
    logits: Any  # (T, V) fp32 on the CPU, before each of `tokens`


@dataclass(frozen=True)
class Judged:
    """The model that was judged, on some prompts of the test split."""

    config: Config
    rows: Sequence[Coverage]  # with what is shown before their prompts
    asked: Sequence[Coverage]  # the same without
    tokenizer: Any
    readings: Sequence[Reading]
    stops: Stops
    answers: Sequence["JudgedAnswer"]

    def name(self, token: int) -> str:
        """The text of a token."""
        return str(self.tokenizer.convert_ids_to_tokens(token))

    @property
    def greedy(self) -> list[Greedy]:
        """The answers as a server would tell them."""
        told = []
        for prompt, answer in zip(self.readings, self.answers, strict=True):
            log_p = answer.logits.double().log_softmax(-1)
            top = log_p.topk(min(TOP, log_p.shape[-1])).values.tolist()
            ended = answer.text, answer.is_stopped, len(prompt.ids), answer.tokens
            told.append(Greedy(prompt.prompt_id, *ended, top))
        return told


def judged(
    config: Config,
    finetuned: Path | None,
    split: Path,
    prompts: int,
    tokens: int,
    dtype: Any,
    first: Shots | None = None,
) -> Judged:
    """Base and adapter, not merged, computing in `dtype`, answer the first test prompts.

    `first` is what the run showed before its prompts.
    """
    tokenizer = load.tokenizer(config.model, finetuned)
    longest = config.model.context - config.inference.max_new_tokens
    rows: list[Coverage] = []
    readings: list[Reading] = []
    asked: list[Coverage] = []
    for row in read_rows(split, Coverage):
        if row.split == "test" and len(rows) < prompts:
            whole = row
            if first is not None:
                prompt = first.before(row.prompt, load.counter(tokenizer, row.tools), row.group_id)
                whole = replace(row, messages=[*prompt, row.messages[-1]])
            (reading,) = read(tokenizer, [whole])
            if len(reading.ids) <= longest:
                asked.append(row)
                rows.append(whole)
                readings.append(reading)
    if not rows:
        raise BadInput(
            f"no prompt of the test split fits into model.context={config.model.context}"
        )
    model = judged_model(config, finetuned, dtype)
    sampling = stage.sampling_of(config, model.generation_config.eos_token_id, tokenizer)
    said = answers(model, tokenizer, readings, sampling, tokens)
    ends = Stops(sampling.stop_ids, frozenset(sampling.stop_texts))
    return Judged(config, rows, asked, tokenizer, readings, ends, said)


def judged_model(config: Config, finetuned: Path | None, dtype: Any) -> Any:
    """As training left it: an adapter stays beside its base."""
    if finetuned is None or not load.is_adapter(finetuned):
        return load.finetuned(config.model, finetuned, dtype)
    base = load.base(config.model, dtype)
    return load.adapted(base, config.model, finetuned, is_trainable=False).eval()


def check_files(then: Judged, exported: Path, dtype: Any, computed: Any, report: Report) -> bool:
    """Compare what was written, loaded afresh; whether all is well."""
    from transformers import AutoTokenizer

    kind = load.dtype_name(dtype)
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    if not tokenizer.chat_template:
        return report.found("template", None, f"chat template is missing from {exported.name}")
    readings = read(tokenizer, then.rows)
    cause = parity.templates(then.readings, readings)
    if not report.found("template", {"prompts": len(readings)}, cause):
        return False
    cause = parity.token_ids(then.readings, readings, then.name)
    counts = {"tokens": sum(len(reading.ids) for reading in readings)}
    if not report.found("token_ids", counts, cause):
        return False
    ends = stops_of(exported)
    told = {"ids": sorted(ends.ids), "texts": sorted(ends.texts)}
    if not report.found("stops", told, parity.stops(then.stops, ends, then.name)):
        return False
    is_adapter = load.is_adapter(exported)
    stored = stored_dtypes(exported)
    cause = None if is_adapter else parity.dtypes(stored, kind)
    if not report.found("stored", dict(stored), cause):
        return False
    if is_adapter:
        model = judged_model(then.config, exported, computed)
    else:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            exported, dtype=computed, local_files_only=True
        ).to(load.device())
    apart = distance(model, then.readings, then.answers)
    if (cause := parity.weights(apart, kind)) is not None:
        betrayed = damage(exported, kind)
        cause = f"weights differ from those judged: {f'{betrayed}: ' if betrayed else ''}{cause}"
    return report.found("weights", asdict(apart), cause)


def check_server(
    then: Judged,
    url: str,
    what: str,
    allowed: parity.Tolerance,
    report: Report,
    rows: Sequence[Coverage] | None = None,
) -> bool:
    """Compare a server of the exported model; `what` is what the report calls it.

    `rows` are `then.asked` for a server that shows examples by itself; None = `then.rows`.
    """
    template, length = then.tokenizer.chat_template, then.config.inference.max_new_tokens
    served, readings = server.ask(url, rows or then.rows, length, template)
    # A server that knows the template's calls tells them apart from the words.
    judged = [
        one._replace(text=_with_calls(template, one.text, row))
        for one, row in zip(then.greedy, then.rows, strict=True)
    ]
    found, cause = parity.server(judged, served, allowed)
    cause = cause and f"{what}: {cause}"
    if readings and (differ := parity.token_ids(then.readings, readings, then.name)):
        cause = f"{what}: {differ}"
    if found["kl_of_20_likeliest"] is None:
        report.unmeasured[f"{what}, probabilities"] = "it returns no log-probabilities"
    return report.found(what, found, cause)


def _with_calls(template: str, text: str, row: Coverage) -> str:
    if not row.tools or chat.family(template) == "own":
        return text
    said = chat.heard(template, text, row.tools)
    return written({"content": said.text, "tool_calls": said.calls})


def read(tokenizer: Any, rows: Sequence[Coverage]) -> list[Reading]:
    """Each prompt in the tokenizer's chat template."""
    readings = []
    for row in rows:
        ids = load.chat_ids(
            tokenizer, row.prompt, row.id, add_generation_prompt=True, tools=row.tools
        )
        said = chat.rendered(tokenizer.chat_template, row.prompt, row.tools)
        text = tokenizer.apply_chat_template(
            said.messages, tools=said.tools, add_generation_prompt=True, tokenize=False
        )
        readings.append(Reading(row.id, text, tuple(ids)))
    return readings


def stops_of(path: Path) -> Stops:
    """What the generation defaults in `path` stop at."""
    from transformers import GenerationConfig

    if not (path / "generation_config.json").is_file():
        return Stops(frozenset(), frozenset())
    found = GenerationConfig.from_pretrained(path)
    own = found.eos_token_id
    ids = own if isinstance(own, list) else [own]
    return Stops(frozenset(ids) - {None}, frozenset(found.stop_strings or ()))


def stored_dtypes(path: Path) -> Counter[str]:
    """Dtype → number of floating-point tensors, from the heads of the files."""
    from safetensors import safe_open

    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    found: Counter[str] = Counter()
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                kind = tensors.get_slice(name).get_dtype()
                found[names.get(kind, kind)] += 1
    return found


def damage(path: Path, dtype: str) -> str | None:
    """What the values in the files betray: that they overflowed, or were rounded on the way."""
    import torch

    if not all(bool(tensor.isfinite().all()) for tensor in _tensors(path)):
        most = torch.finfo(getattr(torch, dtype)).max
        return f"some values are beyond {most:.4g}, where {dtype} ends"
    for shorter in _SHORTER[dtype]:
        if all(_fits(tensor, shorter) for tensor in _tensors(path)):
            return f"they are {dtype} by name, but every value is rounded to {shorter}"
    return None


def _tensors(path: Path) -> Iterator[Any]:
    from safetensors import safe_open

    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                yield tensors.get_tensor(name)


def _fits(tensor: Any, dtype: str) -> bool:
    import torch

    short = tensor.to(getattr(torch, dtype))
    return bool((short.to(tensor.dtype) == tensor).all())


def answers(
    model: Any, tokenizer: Any, prompts: Sequence[Reading], sampling: Sampling, tokens: int
) -> list[JudgedAnswer]:
    """The model's greedy answers, with the logits of their first tokens."""
    from understudy.inference.decode import generate

    greedy = replace(sampling, temperature=0.0)
    found = []
    for prompt in prompts:  # one at a time: no padding, and no batch to differ by
        (made,) = generate(
            model, tokenizer, [PromptSample(prompt.prompt_id, "", prompt.ids, (0,))], greedy
        )
        logits = _logits(model, prompt.ids, made.tokens[: tokens - 1])
        first = (*made.tokens[: tokens - 1], int(logits[-1].argmax()))
        found.append(JudgedAnswer(made.text, made.is_stopped, first, logits))
    return found


def distance(model: Any, prompts: Sequence[Reading], judged: Sequence[JudgedAnswer]) -> Distance:
    """How far `model` is from the judged one on the judged one's answers."""
    divergences: list[tuple[float, str]] = []
    agreed = 0
    for prompt, answer in zip(prompts, judged, strict=True):
        logits = _logits(model, prompt.ids, answer.tokens[:-1])
        for place, value in enumerate(_kl(answer.logits, logits).tolist()):
            divergences.append((value, f"token {place} of prompt {prompt.prompt_id}"))
        agreed += int((logits.argmax(-1) == answer.logits.argmax(-1)).sum())
    worst, where = max(divergences, key=lambda one: math.inf if math.isnan(one[0]) else one[0])
    total = len(divergences)
    mean = sum(value for value, _ in divergences) / total
    return Distance(mean, worst, where, agreed / total, total)


def _logits(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Any:
    """Logits (T + 1, V) before each token of the answer and after its last."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        return model(input_ids=ids, logits_to_keep=len(answer) + 1).logits[0].float().cpu()


def _kl(judged: Any, other: Any) -> Any:
    """KL divergence of each row, in nats; rows that only rounding parts may come out below 0."""
    log_p, log_q = judged.double().log_softmax(-1), other.double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
