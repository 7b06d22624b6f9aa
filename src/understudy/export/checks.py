"""Run the parity check: measure the judged model, then the exported files, then their server."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.config import Config
from understudy.config.deploy import Parity
from understudy.errors import BadInput
from understudy.export import merge, parity, parity_model, parity_server
from understudy.export.parity import Greedy, Reading, Report, Stops
from understudy.inference import stage
from understudy.models import load
from understudy.records import Coverage, read_rows

if TYPE_CHECKING:
    from understudy.export.parity_model import Answer


@dataclass(frozen=True)
class Judged:
    """The model that was judged, on some prompts of the test split."""

    config: Config
    rows: Sequence[Coverage]
    tokenizer: Any
    readings: Sequence[Reading]
    stops: Stops
    answers: Sequence["Answer"]

    def name(self, token: int) -> str:
        """The text of a token."""
        return str(self.tokenizer.convert_ids_to_tokens(token))

    @property
    def greedy(self) -> list[Greedy]:
        """The answers as a server would tell them."""
        pairs = zip(self.readings, self.answers, strict=True)
        return [parity_model.greedy(reading, answer) for reading, answer in pairs]


def judged(
    config: Config, finetuned: Path | None, split: Path, prompts: int, tokens: int, dtype: Any
) -> Judged:
    """Base and adapter, not merged, computing in `dtype`, answer the first test prompts."""
    tokenizer = load.tokenizer(config.model, finetuned)
    longest = config.model.context - config.inference.max_new_tokens
    rows: list[Coverage] = []
    readings: list[Reading] = []
    for row in read_rows(split, Coverage):
        if row.split == "test" and len(rows) < prompts:
            (reading,) = parity_model.read(tokenizer, [row])
            if len(reading.ids) <= longest:
                rows.append(row)
                readings.append(reading)
    if not rows:
        raise BadInput(
            f"no prompt of the test split fits into model.context={config.model.context}"
        )
    model = judged_model(config, finetuned, dtype)
    sampling = stage.sampling_of(config, model.generation_config.eos_token_id, tokenizer)
    answers = parity_model.answers(model, tokenizer, readings, sampling, tokens)
    ends = Stops(sampling.stop_ids, frozenset(sampling.stop_texts))
    return Judged(config, rows, tokenizer, readings, ends, answers)


def judged_model(config: Config, finetuned: Path | None, dtype: Any) -> Any:
    """As training left it: an adapter stays beside its base."""
    if finetuned is None:
        return load.base(config.model, dtype)
    if load.is_adapter(finetuned):
        base = load.base(config.model, dtype)
        return load.adapted(base, config.model, finetuned, is_trainable=False).eval()
    return load.finetuned(config.model, finetuned, dtype)


def check_files(then: Judged, exported: Path, dtype: Any, computed: Any, report: Report) -> bool:
    """Compare what was written, loaded afresh; whether all is well."""
    from transformers import AutoTokenizer

    kind = merge.name_of(dtype)
    tokenizer = AutoTokenizer.from_pretrained(exported, local_files_only=True)
    if not tokenizer.chat_template:
        return report.found("template", None, f"chat template is missing from {exported.name}")
    readings = parity_model.read(tokenizer, then.rows)
    cause = parity.templates(then.readings, readings)
    if not report.found("template", {"prompts": len(readings)}, cause):
        return False
    cause = parity.token_ids(then.readings, readings, then.name)
    counts = {"tokens": sum(len(reading.ids) for reading in readings)}
    if not report.found("token_ids", counts, cause):
        return False
    ends = parity_model.stops_of(exported)
    told = {"ids": sorted(ends.ids), "texts": sorted(ends.texts)}
    if not report.found("stops", told, parity.stops(then.stops, ends, then.name)):
        return False
    is_adapter = load.is_adapter(exported)
    stored = parity_model.stored_dtypes(exported)
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
    distance = parity_model.distance(model, then.readings, then.answers)
    if (cause := parity.weights(distance, kind)) is not None:
        damage = parity_model.damage(exported, kind)
        cause = f"weights differ from those judged: {f'{damage}: ' if damage else ''}{cause}"
    return report.found("weights", asdict(distance), cause)


def check_server(
    then: Judged, url: str, what: str, allowed: parity.Tolerance, report: Report
) -> bool:
    """Compare a server of the exported model; `what` is what the report calls it."""
    served, readings = parity_server.ask(url, then.rows, then.config.inference.max_new_tokens)
    found, cause = parity.server(then.greedy, served, allowed)
    cause = cause and f"{what}: {cause}"
    if readings and (differ := parity.token_ids(then.readings, readings, then.name)):
        cause = f"{what}: {differ}"
    if found["kl_of_20_likeliest"] is None:
        report.unmeasured[f"{what}, probabilities"] = "it returns no log-probabilities"
    return report.found(what, found, cause)


def why_no_server(settings: Parity) -> str | None:
    """Why `understudy serve` is not asked, or None."""
    if settings.server == "none":
        return "export.parity.server=none"
    needed = ("starlette", "uvicorn", "prometheus_client")
    missing = [name for name in needed if find_spec(name) is None]
    return f"it needs {missing[0]}: pip install 'understudy[serve]'" if missing else None
