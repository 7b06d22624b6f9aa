"""The verb `inject`: by how many points 100 injections move the scores of a run's judges."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from understudy.cli.table import table
from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.config import Config
    from understudy.evaluation.injection import InjectionShift

_HELP = "measure by how much 100 injections in answers move the judges' scores"


def register(verbs: Any) -> None:
    """Add `inject` to the verbs."""
    sub = verbs.add_parser("inject", help=_HELP, description=_HELP)
    sub.set_defaults(verb=_inject)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. judge=offline_panel")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")
    sub.add_argument(
        "--answers",
        type=int,
        default=8,
        metavar="N",
        help="playground answers to inject into; a judge is asked N × (100 + evaluation.m) times "
        "(default: %(default)s)",
    )
    sub.add_argument("--each", action="store_true", help="show every injection, not every kind")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _inject(arguments: argparse.Namespace) -> None:
    from understudy import config
    from understudy.config import compose

    composed = config.build(compose.compose(arguments.overrides, arguments.config_dir))
    if arguments.answers < 2:
        raise BadInput(f"--answers={arguments.answers} is too few for an interval; give 2 or more")
    shifts = _measured(composed, arguments.answers)
    if arguments.json:
        found = {"rehearsal": composed.is_rehearsal, "shifts": [_plain(s) for s in shifts]}
        print(json.dumps(found, indent=1))
    else:
        print(_table([s for s in shifts if (s.number is not None) == arguments.each]))
        if composed.is_rehearsal:
            print("rehearsal: stand-ins judged, no LLM")


def _measured(composed: "Config", count: int) -> list["InjectionShift"]:
    from understudy import playground
    from understudy.evaluation import injection
    from understudy.pipeline import run
    from understudy.services import providers
    from understudy.services.account import Account

    task = composed.task.name
    if task not in playground.TASKS:
        raise BadInput(f"task={task} has no playground; choose {', '.join(playground.TASKS)}")
    for notice in providers.notices(composed):
        print(notice, file=sys.stderr)
    answers = injection.imperfect_answers(task, count)
    root = run.run_root(composed)
    shifts: list[injection.InjectionShift] = []
    for name, judge in composed.judges.items():
        account = Account(
            journal=root / "journal",
            stage=f"inject/{name}",
            purse=f"inject/{task}",
            budget_usd=composed.budget.usd,
            rehearsal_url=composed.rehearsal.url,
        )
        shifts += injection.measure(judge, composed.evaluation, answers, account)
    return shifts


def _plain(shift: "InjectionShift") -> dict[str, Any]:
    intervals = {m: getattr(shift, m)._asdict() for m in ("similarity", "precision")}
    return shift._asdict() | intervals


def _table(shifts: list["InjectionShift"]) -> str:
    header = ("judge", "kind", "answers", "unscored", "similarity [95 %]", "precision [95 %]")
    rows = [
        (
            shift.judge,
            shift.kind if shift.number is None else f"{shift.number:3} {shift.kind}",
            str(shift.injected),
            str(shift.unscored),
            _words(shift.similarity),
            _words(shift.precision),
        )
        for shift in shifts
    ]
    return table(header, rows, left=2)


def _words(shift: Any) -> str:
    if shift.mean is None:
        return "–"
    ends = "" if shift.low is None else f" [{shift.low:+.1f}, {shift.high:+.1f}]"
    return f"{shift.mean:+.1f}{ends}"
