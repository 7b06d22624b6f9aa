"""One table of labels, colours and number formats for every figure and page."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

MISSING = "–"

# These two stand for the page's own colours and are replaced in inline figures (draw.svg).
INK = "#24292e"
FAINT = "#d8dbde"


class Look(NamedTuple):
    """How one measured quantity is called and drawn."""

    label: str
    colour: str
    marker: str


METRICS = {
    "similarity": Look("Similarity", "#0173b2", "o"),
    "precision": Look("Precision", "#de8f05", "s"),
    "rule": Look("Rule pass rate", "#029e73", "D"),
    "train_loss": Look("train loss", "#0173b2", "o"),
    "validation_loss": Look("validation loss", "#de8f05", "s"),
}
# One per judge of a panel, in the run's order (seaborn's "colorblind" palette).
JUDGES = ["#0173b2", "#de8f05", "#cc78bc", "#029e73", "#d55e00", "#949494"]
MARKERS = ["o", "s", "^", "D", "v", "P"]

ROLES = {"local": "local model", "baseline": "service baseline"}
DATA_SIZE = "synthetic rows (0 = human rows only)"
REHEARSAL = "REHEARSAL"


def number(value: float | int | None, digits: int = 1) -> str:
    """The value with thousands separators; missing is a dash, never 0."""
    if value is None or value != value:  # only NaN differs from itself
        return MISSING
    return f"{value:,.{digits}f}"


def count(value: float | int | None) -> str:
    """A whole number."""
    return number(value, 0)


def short(size: float) -> str:
    """A number of rows as 250 or 4k."""
    return f"{size / 1000:g}k" if size >= 1000 else f"{size:g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    text = number(None if share is None else 100 * share, digits)
    return text if text == MISSING else f"{text} %"


def contaminated(row: Mapping[Any, Any]) -> str:
    """Training rows that repeat a held-out row; a dash and the reason where nobody counted."""
    if row["contamination_missing"]:
        return f"{MISSING} ({row['contamination_missing']})"
    return f"{count(row['contaminated'])} of {count(row['training_rows'])}"


CONTAMINATED = (
    "Contaminated: training rows that repeat a row of the validation, test or holdout split "
    "(near-duplicates, containment, long runs, lineage)."
)


def interval(low: float | None, high: float | None, scale: float = 1) -> str:
    """A 95 % interval in brackets; empty when either end is missing."""
    if low is None or high is None or low != low or high != high:
        return ""
    return f"[{number(scale * low)}, {number(scale * high)}]"


def duration(seconds: float | None) -> str:
    """Seconds as s, min or h."""
    if seconds is None or seconds != seconds:
        return MISSING
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Name(NamedTuple):
    """A task, model or judge as tables call it, and what files call it."""

    label: str
    aliases: tuple[str, ...] = ()


# Their order here is their order in every table and figure; unknown names follow, sorted.
TASKS = {
    "summarization": Name("Summarization", ("summarize", "summarise", "summarisation")),
    "classification": Name("Classification", ("classify",)),
    "coding": Name("Coding"),
    "closed_qa": Name("Closed QA", ("closedqa", "closed-qa")),
}
SERVICES = {
    "gpt-4o": Name("GPT-4o", ("gpt4o", "gpt_4o")),
    "claude-3-sonnet": Name(
        "Claude 3 Sonnet",
        (
            *("claude3sonnet", "claude_3_sonnet", "claude-3-sonnet-20240229"),
            "anthropic.claude-3-sonnet-20240229-v1:0",
        ),
    ),
    "gemini-1.5-flash": Name(
        "Gemini 1.5 Flash", ("gemini1_5flash", "gemini15flash", "gemini-1.5-flash-001")
    ),
}
MODELS = {
    "gemma-2b": Name("Gemma 2B", ("gemma2b", "gemma_2b")),
    "gemma-7b": Name("Gemma 7B", ("gemma7b", "gemma_7b")),
    "mistral-7b": Name("Mistral 7B", ("mistral", "mistral_7b_0_3", "mistral-7b-v0.3")),
    "llama3-8b": Name("LLaMA3 8B", ("llama3_8b", "llama3-8b-v1", "meta-llama-3-8b")),
    "llama3-3b": Name("LLaMA3.2 3B", ("llama3_3b", "llama-3.2-3b")),
    "llama3-1b": Name("LLaMA3.2 1B", ("llama3_1b", "llama-3.2-1b")),
}
# Who made them, for published sets, which do not say; our own rows do.
FAMILIES = {
    **{"gpt-4o": "openai", "claude-3-sonnet": "anthropic", "gemini-1.5-flash": "google"},
    **{"gemma-2b": "google", "gemma-7b": "google", "mistral-7b": "mistral"},
    **{"llama3-8b": "meta", "llama3-3b": "meta", "llama3-1b": "meta"},
}
KNOWN = {**TASKS, **SERVICES, **MODELS}
_ALIASES = {
    alias: name for name, entry in KNOWN.items() for alias in (name.lower(), *entry.aliases)
}
_ORDER = {name: place for place, name in enumerate(KNOWN)}


def canonical(name: str) -> str:
    """The one spelling of a known task, model, service or judge; any other name as it is."""
    return _ALIASES.get(name.lower(), name)


def label(name: str | None) -> str:
    """How tables call it; nothing is a dash."""
    if name is None or name != name:
        return MISSING
    entry = KNOWN.get(name)
    return entry.label if entry else name


def rank(name: str | None) -> tuple[int, str]:
    """Its place in every table and figure."""
    return _ORDER.get(name or "", len(_ORDER)), name or ""


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Label, colour and marker of each of these, in the order of tables."""
    ordered = sorted(set(names), key=rank)
    return {
        name: Look(label(name), JUDGES[place % len(JUDGES)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(ordered)
    }
