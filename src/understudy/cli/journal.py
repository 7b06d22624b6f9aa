"""The verb `journal`: what was paid for, as sums or as JSON lines; and how to forget replies."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.cli.table import table
from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.services.journal import Journal, Total

_HELP = "show what was paid for (totals), write it as JSON lines (export), forget it (purge)"
_FILTERS = ("stage", "service", "model", "purse")
_GROUPS = (*_FILTERS, "day", "mode")
_SHOWN = ("model", "stage", "day", "purse")  # without --by
_MICRO = 1e6


def register(verbs: Any) -> None:
    """Add `journal` to the verbs."""
    sub = verbs.add_parser("journal", help=_HELP, description=_HELP)
    sub.set_defaults(verb=_journal)
    actions = ("totals", "export", "purge")
    sub.add_argument("action", nargs="?", choices=actions, default="totals")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--rehearsal", action="store_true", help="the journal of rehearsals")
    for name in _FILTERS:
        sub.add_argument(f"--{name}", metavar=name.upper(), help=f"calls of this {name} only")
    sub.add_argument("--before", metavar="DAY", help="not totals: calls before this UTC day only")
    sub.add_argument("--by", metavar="A,B", help=f"totals: group by any of {', '.join(_GROUPS)}")
    sub.add_argument("--json", action="store_true", help="totals: print JSON instead of tables")
    sub.add_argument("--out", metavar="FILE", help="export: write here instead of to stdout")
    sub.add_argument("--yes", action="store_true", help="purge: yes, forget these replies")


def _journal(arguments: argparse.Namespace) -> None:
    from understudy.services.journal import open_journal

    directory = _directory(arguments)
    if not list(directory.glob("*.sqlite")):
        other = "without --rehearsal" if arguments.rehearsal else "with --rehearsal"
        raise BadInput(f"there is no call journal in {directory}; try {other}, or --root=DIR")
    with open_journal(directory) as journal:
        _ACTIONS[arguments.action](journal, arguments)


def _directory(arguments: argparse.Namespace) -> Path:
    from understudy.config.compose import runs_root

    root = runs_root(arguments.root)
    return (root / "rehearsal" if arguments.rehearsal else root) / "journal"


def _where(arguments: argparse.Namespace) -> dict[str, str]:
    return {name: value for name in _FILTERS if (value := getattr(arguments, name)) is not None}


def _before(arguments: argparse.Namespace) -> str:
    """The day that calls must be earlier than, as the journal writes days."""
    if arguments.before is None:
        return "9999-12-31"
    try:
        return date.fromisoformat(arguments.before).isoformat()
    except ValueError:
        raise BadInput(f"--before={arguments.before} is no day like 2026-11-21") from None


# --- totals --------------------------------------------------------------------------------------


def _totals(journal: "Journal", arguments: argparse.Namespace) -> None:
    groups = [tuple(arguments.by.split(","))] if arguments.by else [(name,) for name in _SHOWN]
    found = {by: journal.totals(*by, **_where(arguments)) for by in groups}
    if arguments.json:
        print(json.dumps([_plain(by, total) for by, totals in found.items() for total in totals]))
    else:
        print("\n\n".join(_table(by, totals) for by, totals in found.items()))


def _plain(by: tuple[str, ...], total: "Total") -> dict[str, Any]:
    from dataclasses import asdict  # late: it would slow every --help

    values = asdict(total)
    groups: dict[str, Any] = dict(zip(by, total.by, strict=True))
    usage: dict[str, Any] = values.pop("usage")
    return values | usage | groups


def _table(by: tuple[str, ...], totals: list["Total"]) -> str:
    tokens = ("input", "cached", "output", "reasoning")
    header = (*by, "calls", *tokens, "$", "uncertain", "≤ $", "s/call")
    rows = [
        (
            *total.by,
            f"{total.calls:,}",
            *(f"{getattr(total.usage, name):,}" for name in tokens),
            f"{total.microusd / _MICRO:.6f}",
            f"{total.uncertain_calls:,}",
            f"{total.uncertain_microusd / _MICRO:.6f}",
            f"{total.latency_s / total.calls:.2f}" if total.calls else "–",
        )
        for total in totals
    ]
    return table(header, rows, left=len(by))


# --- export and purge ----------------------------------------------------------------------------


def _matching(journal: "Journal", arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    where, before = _where(arguments), _before(arguments)
    for call in journal.export():
        day = datetime.fromtimestamp(call["at"], UTC).date().isoformat()
        if day < before and all(call[name] == value for name, value in where.items()):
            yield call


def _export(journal: "Journal", arguments: argparse.Namespace) -> None:
    lines = (json.dumps(call, ensure_ascii=False) for call in _matching(journal, arguments))
    if arguments.out is None:
        for line in lines:
            print(line)
        return
    file = os.open(arguments.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # others' texts
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.writelines(f"{line}\n" for line in lines)


def _purge(journal: "Journal", arguments: argparse.Namespace) -> None:
    where = _where(arguments)
    if not where and arguments.before is None:
        options = ", ".join(f"--{name}" for name in (*_FILTERS, "before"))
        raise BadInput(f"purge needs at least one of {options}, so as not to forget all by mistake")
    if not arguments.yes:
        count = sum(1 for _ in _matching(journal, arguments))
        raise BadInput(
            f"purge would forget {count} replies, which would be paid for again when they are "
            "needed; add --yes to do it"
        )
    if arguments.before is None:
        forgotten = journal.purge(**where)
    else:
        days = {total.by[0] for total in journal.totals("day", **where)}
        early = sorted(day for day in days if day < _before(arguments))
        forgotten = sum(journal.purge(day=day, **where) for day in early)
    print(f"forgotten: {forgotten} replies; what they cost stays in the totals", file=sys.stderr)


_ACTIONS = {"totals": _totals, "export": _export, "purge": _purge}
