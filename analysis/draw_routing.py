"""The accuracy-cost figure of routers."""

from typing import Any

from .draw import canvas
from .labels import FAINT, INK, JUDGES, percent

_ORACLE = "#949494"


def routing_figure(picture: dict[str, Any], rehearsal: bool) -> Any:
    """Routers as lines, single LLMs as points, their hull, the oracle, and the band of a plan.

    The axis of costs is logarithmic where single LLMs differ by more than tenfold.
    """
    with canvas(1, 1, "", rehearsal) as (figure, axes):
        figure.set_size_inches(8.6, 4.6)
        ax = axes[0]
        if picture["oracle"] is not None:
            _line(ax, picture["oracle"], _ORACLE, "oracle (labels known)", ls=":")
        _line(ax, picture["zero"], INK, "zero router (random mix of two)", ls="--")
        mix = picture["mix"]
        ax.plot(mix["cost"], mix["accuracy"], "x", color=INK, label="uniform random mix")
        for place, (name, curve) in enumerate(picture["curves"].items()):
            _line(ax, curve, JUDGES[place % len(JUDGES)], name)
        _singles(ax, picture["singles"])
        if "plan" in picture:
            _plan(ax, picture["plan"], picture["band"])
        costs = [single["cost"] for single in picture["singles"]]
        if costs and max(costs) > 10 * min(costs) > 0:
            ax.set_xscale("log")
        ax.set(xlabel="USD per 1,000 queries", ylabel="accuracy")
        figure.legend(loc="outside right upper", fontsize=7)
    return figure


def _line(ax: Any, curve: dict[str, list[float]], colour: str, label: str, ls: str = "-") -> None:
    marker = "." if len(curve["cost"]) == 1 else None
    ax.plot(
        curve["cost"], curve["accuracy"], color=colour, ls=ls, lw=1.4, label=label, marker=marker
    )


def _singles(ax: Any, singles: list[dict[str, Any]]) -> None:
    for single in singles:
        ax.plot(single["cost"], single["accuracy"], "o", ms=4, color=INK, mfc=FAINT, zorder=3)
        ax.annotate(
            single["llm"],
            (single["cost"], single["accuracy"]),
            (3, -8),
            textcoords="offset points",
            fontsize=6.5,
            color=INK,
        )


def _plan(ax: Any, plan: dict[str, float], band: dict[str, float]) -> None:
    """The chosen point, and where its realised accuracy lies."""
    expected = band["expected"]
    ax.errorbar(
        [plan["cost"]],
        [expected],
        yerr=[[expected - band["low"]], [band["high"] - expected]],
        fmt="D",
        ms=5,
        capsize=4,
        color=JUDGES[4],
        label=f"plan, realised accuracy ({percent(band['confidence'], 0)})",
    )
