"""`understudy judges`: what a table of verdicts says of its judges; `register` adds the verb."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from understudy.errors import BadInput
from understudy.judges.roles import ROLES

_HELP = "what a table of verdicts says of its judges: agreement, repeats, humans, successors"
_EXAMPLES = """\
FILE is a table (CSV, JSONL, JSON, parquet, packed or not) with verdicts of any judges, or a folder
of such tables: a row per verdict, a column per judge, a column per repeat, or the winner of a pair.
Names and values say what a column is; ROLE=COLUMN says it where they do not. Roles:

{roles}

examples:
  understudy judges verdicts.csv                     page, tables and figures in understudy-judges
  understudy judges folder score=points item=q       where the names do not say it
  understudy judges scores.csv --right 0             how often answer 0, known to be right, wins
  understudy judges scores.csv --scale 0-10 --out DIR

No key, no text and no run is needed; no service is asked.
"""


def register(verbs: Any) -> None:
    """Add the verb `judges` to the subparsers of `understudy`."""
    roles = "\n".join(f"  {role:<12} {words}" for role, words in ROLES.items())
    sub = verbs.add_parser(
        "judges", help=_HELP, description=_HELP, epilog=_EXAMPLES.format(roles=roles),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sub.set_defaults(verb=judges)
    sub.add_argument("what", nargs="+", metavar="FILE|ROLE=COLUMN", help="see below")
    sub.add_argument("--out", metavar="DIR", default="understudy-judges", help="%(default)s")
    sub.add_argument("--right", metavar="SYSTEM", help="whose answers are known to be right")
    sub.add_argument("--scale", metavar="LOW-TOP", help="of the scores (default: what they show)")
    sub.add_argument(
        "--draws", type=int, default=2000, metavar="N", help="of the bootstrap (%(default)s)"
    )


def judges(arguments: argparse.Namespace) -> int:
    """Measure and write; prints what to read first."""
    from understudy.judges import findings, study
    from understudy.report.page import load_analysis

    words = [one for one in arguments.what if "=" in one and not Path(one).exists()]
    files = [one for one in arguments.what if one not in words]
    if len(files) != 1:
        raise BadInput(f"{' '.join(files) or 'no file'}: give one file, or a folder of files")
    path = Path(files[0]).expanduser()
    if not path.exists():
        raise BadInput(f"{path} does not exist; give a table of verdicts, or a folder of them")
    if arguments.draws < 100:
        raise BadInput(f"--draws={arguments.draws} is too few for an interval; give 100 or more")
    options = study.Options(words, arguments.right, _scale(arguments.scale), arguments.draws)
    made = study.study(path, options)
    out = Path(arguments.out).expanduser()
    command = shlex.join(["understudy", "judges", *arguments.what])
    page = load_analysis().write_judges(made, path.name, command, out)
    print(f"{made.verdicts:,} verdicts, {made.unscored:,} without a score")
    for line in findings.findings(made):
        print(line)
    for note in made.notes:
        print(f"note: {note}")
    print(f"written: {page}")
    return 0


def _scale(text: str | None) -> tuple[float, float] | None:
    """The ends of 0-10, or of 10 alone, which begins at 0."""
    if text is None:
        return None
    low, sign, top = text.replace("–", "-").rpartition("-")
    try:
        ends = (float(low) if sign else 0.0), float(top)
    except ValueError:
        raise BadInput(f"--scale={text} is no scale; give its ends, like 0-10 or 1-5") from None
    if ends[0] >= ends[1]:
        raise BadInput(f"--scale={text} ends where it begins, or before; give 0-10 or 1-5")
    return ends
