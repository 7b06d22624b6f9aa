"""Figure 4: cumulative cost of the service and the local model, month by month.

python -m analysis.fig_cost RUN… --out DIR [--set gpu_usd=2000..3000]
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import command, costs, draw, labels
from .costs import Assumption
from .evaluations import Data
from .table_cost import assumptions, options


def build(data: Data, out: Path, changed: Sequence[str] = ()) -> list[Path]:
    """Write fig_cost."""
    return draw.save_both(figure(assumptions(data, changed), data.is_rehearsal), out, "fig_cost")


def figure(found: Mapping[str, Assumption], rehearsal: bool) -> Any:
    """A panel per workload, the break-even with its interval."""
    panels = len(costs.WORKLOADS)
    with draw.canvas(panels, panels, "Cumulative cost", rehearsal) as (drawn, axes):
        for ax, workload in zip(axes, costs.WORKLOADS, strict=True):
            one = costs.cost(found, workload)
            for values, name, colour, style in (
                (one.service, "service", labels.JUDGES[1], "-"),
                (one.local, "local model", labels.JUDGES[0], "--"),
            ):
                ax.plot(one.month, values, color=colour, ls=style, lw=1.8, label=name)
            last = float(one.month[-1])
            if np.isfinite(one.break_even) and one.break_even <= last:
                ax.axvline(one.break_even, color=labels.INK, ls=":", lw=1.2)
            if np.isfinite(one.low) and one.low <= last:
                ax.axvspan(one.low, min(one.high, last), color=labels.INK, alpha=0.1, lw=0)
            ax.set(title=f"{workload}: {_said(one)}", xlabel="month", xlim=(0, last))
            ax.set_ylabel("USD so far" if ax is axes[0] else "")
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        draw.legend(
            drawn, axes[0].get_legend_handles_labels()[0], "grey: the middle 95 % of the break-even"
        )
    return drawn


def _said(one: costs.Cost) -> str:
    if not np.isfinite(one.break_even):
        return "never breaks even"
    high = labels.number(one.high) if np.isfinite(one.high) else "never"
    return f"even in month {one.break_even:.1f} [{labels.number(one.low)}, {high}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw cumulative costs and the break-even."""
    parser = options(command.parser("fig_cost", str(main.__doc__)))
    return command.run(parser, build, arguments)


if __name__ == "__main__":
    sys.exit(main())
