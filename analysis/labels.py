"""One table of labels, colours and number formats for every figure and page."""

from typing import NamedTuple

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


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as a percentage."""
    text = number(None if share is None else 100 * share, digits)
    return text if text == MISSING else f"{text} %"


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
