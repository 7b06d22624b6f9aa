"""`understudy label RUN`: show humans answers of the holdout, blind, and read what they said.

`--n` draws prompts and writes `labels/label.html` beside run.json; `--import` reads its export, or
a table of any other tool; `--judge` asks a dear judge instead of humans (a cascade). `understudy
decide` uses what is there.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.config import Service
    from understudy.labelling.draw import Draw, Shown
    from understudy.pipeline.record import RunRecord

_ABOUT = "let humans score answers of the holdout, blind, so that judges can be vouched for"
_RUBRIC = "How well does each answer do what the prompt asks? Score both by the same measure."


def register(verbs: Any) -> None:
    """Add the verb `label`."""
    sub = verbs.add_parser("label", help=_ABOUT, description=_ABOUT)
    sub.set_defaults(verb=label)
    sub.add_argument("run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)")
    sub.add_argument("--n", type=int, metavar="N", default=100, help="prompts (%(default)s)")
    sub.add_argument("--scale", default="1-5", help="1-5 (default), 0-1 for pass or fail, 0-100")
    sub.add_argument("--rubric", default=_RUBRIC, metavar="TEXT", help="what raters are asked")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (%(default)s)")
    sub.add_argument("--import", dest="file", metavar="FILE", help="labels: JSONL or CSV")
    sub.add_argument("--judge", metavar="NAME", help="ask this judge (conf/judge), not humans")
    sub.add_argument("--usd", type=float, metavar="USD", help="the most that --judge may spend")
    sub.add_argument("--service", metavar="NAME", help="of ready-made answers: whose is replaced")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")


def label(arguments: argparse.Namespace) -> int:
    """Draw and write the page, or import a file."""
    from understudy.config.command_line import command
    from understudy.config.compose import runs_root
    from understudy.evaluation.labels import FOLDER
    from understudy.pipeline.record import RunRecord, find_run

    run = RunRecord.read(find_run(runs_root(arguments.root), arguments.run))
    folder = run.path.parent / FOLDER
    if arguments.file is not None:
        return _import(folder, Path(arguments.file).expanduser(), run.name)
    from understudy.evaluation.labels import DRAW, LABELS, ends_of
    from understudy.labelling import page
    from understudy.labelling.draw import draw

    ends = ends_of(arguments.scale)
    if any(end != int(end) for end in ends):
        raise BadInput(f"--scale={arguments.scale}: the page needs whole numbers at its ends")
    judge = None if arguments.judge is None else _judge(arguments.judge)
    scale = arguments.scale if judge is None else "0-100"
    made, shown = draw(run, arguments.n, scale, arguments.rubric, arguments.seed, arguments.service)
    text = made.to_json()
    file = folder / DRAW
    if (folder / LABELS).is_file() and file.read_text(encoding="utf-8") != text:
        raise BadInput(
            f"{folder} has labels of another draw; decide with them, or move {LABELS} away first"
        )
    _write(file, text)
    if judge is not None:
        return _ask(run, judge, made, shown, folder, arguments.usd)
    _write(folder / "label.html", page.page(made, shown, _mark(text)))
    print(f"{len(made.items)} prompts, two answers each: open {folder / 'label.html'}")
    print(f"then: {command('label', '--import', 'EXPORT.jsonl', operand=run.name)}")
    return 0


def _judge(name: str) -> "Service":
    """The one service of a judge's option; BadInput for a panel or a grader."""
    from understudy import config
    from understudy.config.compose import compose

    made = config.build(compose([f"judge={name}"], None))
    if len(made.judges) != 1 or made.graders:
        raise BadInput(f"--judge={name} is no single judge that is asked; name one of conf/judge")
    return next(iter(made.judges.values()))


def _ask(
    run: "RunRecord",
    judge: "Service",
    made: "Draw",
    shown: "list[Shown]",
    folder: Path,
    usd: float | None,
) -> int:
    """Label by a judge, and write down what it cost."""
    import json

    from understudy import config
    from understudy.config.command_line import command
    from understudy.evaluation.labels import ASKED, LABELS
    from understudy.labelling.asking import asked
    from understudy.records import dumps
    from understudy.services.account import Account

    if (folder / LABELS).is_file() and not (folder / ASKED).is_file():
        raise BadInput(f"{folder} has labels of humans; move {LABELS} away before a judge labels")
    composed = config.build(run.config)
    known = [*composed.judges, *(one.name for one in composed.judges.values())]
    if judge.name in known:
        raise BadInput(f"--judge={judge.name} has judged all of {run.name}; name a better one")
    stage = f"label/{run.name}"
    account = Account(run.root / "journal", stage, stage, usd, composed.rehearsal.url)
    found = asked(judge, composed.evaluation, made, shown, account)
    _write(folder / LABELS, "".join(dumps(row.to_dict()) + "\n" for row in found.rows))
    _write(folder / ASKED, json.dumps({"judge": judge.name, "usd": found.usd}) + "\n")
    print(f"{len(made.items)} prompts, two answers each, by {judge.name}: ${found.usd:.4f}")
    print(f"then: {command('decide', operand=run.name)}")
    return 0


def _import(folder: Path, file: Path, name: str) -> int:
    import json

    from understudy.config.command_line import command
    from understudy.evaluation.labels import ASKED, DRAW, LABELS
    from understudy.labelling import importing
    from understudy.labelling.draw import Draw
    from understudy.records import HumanLabel, dumps, read_rows

    drawn = folder / DRAW
    if not drawn.is_file():
        again = command("label", operand=name)
        raise BadInput(f"{name} has no draw; `{again}` makes one, with its page")
    if (folder / ASKED).is_file():
        raise BadInput(f"{folder} has labels of a judge; move them away before humans label")
    text = drawn.read_text(encoding="utf-8")
    known = folder / LABELS
    old = list(read_rows(known, HumanLabel)) if known.is_file() else []
    new = importing.labels_of(file, Draw.of(json.loads(text)), _mark(text))
    rows = importing.merged(old, new)
    _write(known, "".join(dumps(row.to_dict()) + "\n" for row in rows))
    raters = sorted({row.rater for row in rows})
    prompts = len({row.prompt_id for row in rows})
    print(f"{len(rows)} labels of {prompts} prompts by {', '.join(raters)}: {known}")
    print(f"then: {command('decide', operand=name)}")
    return 0


def _mark(draw: str) -> str:
    """What tells one draw from another."""
    import hashlib

    return hashlib.sha256(draw.encode()).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    """Write what holds users' texts."""
    from understudy.store.artifacts import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text, is_private=True)
