"""The verb `plan`: what `run` with the same overrides would do and cost; nothing is touched."""

import argparse
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from understudy.cli.table import table
from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.plan import Plan, PlannedStage
    from understudy.plan.ranges import Range

_HELP = "show what a run or sweep would do and cost, touching nothing"
_DETAIL = (
    "An interval stands where rounds, a teacher's yield or the length of replies decide: "
    "expected (least - most). Expected counts every round that may be needed and no repair call."
)


def register(verbs: Any) -> None:
    """Add `plan` to the verbs."""
    sub = verbs.add_parser("plan", help=_HELP, description=f"{_HELP}. {_DETAIL}")
    sub.set_defaults(verb=_plan)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for `understudy run`")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")
    words = "measure this machine's speed for ten seconds, first"
    sub.add_argument("--probe", action="store_true", help=words)
    sub.add_argument("--json", action="store_true", help="print JSON instead of tables")
    words = "what a labelled prompt (two answers) costs: show what labels of the holdout buy"
    sub.add_argument("--labels", type=float, metavar="USD", help=words)


def _plan(arguments: argparse.Namespace) -> None:
    from understudy import plan
    from understudy.sweep.cells import configs_of

    if (usd := arguments.labels) is not None and not 0 <= usd < float("inf"):
        raise BadInput(f"--labels {usd:g} is no price; give dollars per prompt, such as 1.50")
    asked = configs_of(arguments.overrides, arguments.config_dir)
    made = plan.make(*asked, is_probed=arguments.probe, label_usd=arguments.labels)
    if arguments.labels is not None and not made.labels:
        raise BadInput(
            "--labels needs a holdout of 20 clusters or more that is known beforehand; raise "
            "coverage.split.holdout"
        )
    print(json.dumps(to_dict(made), indent=1) if arguments.json else to_text(made))


def to_dict(plan: "Plan") -> dict[str, Any]:
    """Everything, as plain values; a range is {low, expected, high}."""
    return {
        "cells": plan.cells,
        "rehearsal": plan.is_rehearsal,
        "usd": _ends(plan.usd),
        "unpriced": plan.unpriced,
        "seconds": _ends(plan.seconds),
        "gpu_hours": _ends(plan.gpu_hours),
        "budget_usd": plan.budget_usd,
        "spent_usd": plan.spent_usd,
        "power": plan.power,
        "labels": [one._asdict() for one in plan.labels],
        "notices": plan.notices,
        "stages": [
            {
                "stage": item.stage.path,
                "state": item.state,
                "cells": item.cells,
                "service": item.service.name if item.service else None,
                "seconds": _ends(item.seconds),
                "gpu_hours": _ends(item.gpu_hours),
                "known_from": item.basis,
                "calls": None if item.cost is None else _calls(item),
            }
            for item in plan.items
        ],
    }


def _calls(item: "PlannedStage") -> dict[str, Any]:
    assert item.cost is not None, f"{item.stage.path} has calls"
    values = item.cost._asdict()
    names = {"calls": "number", "repairs": "repairs_at_most", "input": "input_tokens"}
    names |= {"output": "output_tokens"}
    return {
        names.get(name, name): _ends(value) if hasattr(value, "expected") else value
        for name, value in values.items()
        if name != "seconds"
    }


def _ends(value: "Range") -> dict[str, float]:
    return {end: getattr(value, end) for end in ("low", "expected", "high")}


def to_text(plan: "Plan") -> str:
    """Two tables, stages and calls, and the sums."""
    lines = [_stages(plan), ""]
    if any(item.cost for item in plan.open):
        lines += [_services(plan), ""]
    paid = f"${_words(plan.usd, 2)}"
    if plan.unpriced:
        paid += f", without {', '.join(plan.unpriced)}, of which no price is stated"
    if plan.budget_usd is not None:
        paid += f"; budget.usd={plan.budget_usd:g}, spent so far ${plan.spent_usd:.2f}"
    lines.append(f"dollars: {paid}")
    lines.append(f"wall time: {_time(plan.seconds)}; GPU-hours: {_words(plan.gpu_hours, 1)}")
    if any(item.gpu_hours.high and item.basis == "table" for item in plan.open):
        lines.append(
            "GPU-hours from the table are those of one A100, till a stage of the same model is "
            "finished; --probe measures where there is a GPU"
        )
    lines += plan.notices
    lines += plan.power
    lines += ["", _labels(plan)] if plan.labels else []
    if plan.is_rehearsal:
        free = "no LLM is asked and nothing is paid" if plan.is_free else "the others are paid"
        lines.append(f"rehearsal: stand-ins play services; {free}")
    return "\n".join(lines)


def _labels(plan: "Plan") -> str:
    """What labels buy; the last column says of each step what another 100 dollars would add."""
    rows, before = [], None
    for one in plan.labels:
        gain = "–"
        if before is not None and one.usd > before.usd:
            gain = f"{(one.power - before.power) / (one.usd - before.usd) * 100:+.3f}"
        cells = (f"{one.usd:,.2f}", f"{one.power:.3f}", f"{one.excludes:.1f}", gain)
        rows.append((f"{one.labels:,}", *cells))
        before = one
    header = ("labels", "$ with judging", "power", "excludes, points", "power per $100 more")
    return table(header, rows)


def _stages(plan: "Plan") -> str:
    from understudy.plan.ranges import total

    groups: dict[str, list[PlannedStage]] = defaultdict(list)
    for item in plan.items:
        groups[item.stage.kind].append(item)
    rows = []
    for kind, items in groups.items():
        counts = [sum(i.state == state for i in items) for state in ("done", "to run", "perhaps")]
        again = sum(item.cells - 1 for item in items)
        time = _time(total(item.seconds for item in items))
        hours = _words(total(item.gpu_hours for item in items), 1)
        basis = ", ".join(sorted({item.basis for item in items if item.basis})) or "–"
        rows.append((kind, *map(str, (*counts, again)), time, hours, basis))
    header = ("stage", "done", "to run", "perhaps", "shared", "time", "GPU-hours", "known from")
    return table(header, rows)


def _services(plan: "Plan") -> str:
    from understudy.plan.ranges import total

    groups: dict[tuple[str, str], list[PlannedStage]] = defaultdict(list)
    for item in plan.open:
        if item.service is not None:
            groups[item.stage.kind, item.service.name].append(item)
    rows = []
    for names, items in groups.items():
        costs = [item.cost for item in items if item.cost is not None]
        tokens = (total(c.input for c in costs), total(c.output for c in costs))
        dollars = ([c.online_usd for c in costs], [c.batch_usd for c in costs])
        rows.append(
            (
                *names,
                _words(total(c.calls for c in costs)),
                f"{sum(c.repairs for c in costs):,}",
                *(_words(some) for some in tokens),
                *(_dollars(some) for some in dollars),
                ", ".join(sorted({c.basis for c in costs})),
            )
        )
    header = ("stage", "service", "calls", "repairs ≤", "input tokens", "output tokens")
    return table((*header, "$ online", "$ batch", "known from"), rows, left=2)


def _dollars(parts: "list[Range | None]") -> str:
    from understudy.plan.ranges import total

    known = [part for part in parts if part is not None]
    return _words(total(known), 2) if len(known) == len(parts) else "–"


def _words(value: "Range", digits: int = 0) -> str:
    """Expected (least - most), or the number alone where they round to the same."""
    low, expected, high = (f"{getattr(value, e):,.{digits}f}" for e in ("low", "expected", "high"))
    return expected if low == high else f"{expected} ({low} - {high})"


_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (0.0, "s"))


def _time(value: "Range") -> str:
    size, unit = next(unit for unit in _UNITS if value.expected >= unit[0])
    scaled = value * (1 / (size or 1.0))
    return f"{_words(scaled, 1)} {unit}"
