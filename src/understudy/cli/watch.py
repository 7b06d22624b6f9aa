"""`understudy watch RUN`: does the local model still do what the migration promised?

Samples what it answered since, has it judged within a budget, and says OK, ALARM or TOO EARLY; at
most `watch.alpha` of all watches ever alarm while the loss is within the run's margin.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.config import Config
    from understudy.pipeline.record import RunRecord
    from understudy.watch.watch import WatchLook

_HELP = "judge a sample of what the local model answers (exit 0 OK, 1 ALARM, 5 too early)"
TOO_EARLY = 5
_EXAMPLES = """examples:
  understudy watch move                              the gateway's log, once
  understudy watch move watch.every_s=600 watch.action=rollback
  understudy watch move --log answers.jsonl watch.compare=level
  understudy watch move --restart                    after an alarm was seen to

RUN is the run that led to the migration: its judges, its service and its margin are used.
"""


def register(verbs: Any) -> None:
    """Add the verb `watch`."""
    sub = verbs.add_parser(
        "watch", help=_HELP, description=_HELP, epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    sub.set_defaults(verb=watch)
    sub.add_argument("run", metavar="RUN", help="a name, a path, or latest")
    sub.add_argument("overrides", nargs="*", metavar="watch.KEY=VALUE", help="see conf/watch")
    sub.add_argument("--log", metavar="PATH", help="a gateway's folder, or a file of answers")
    sub.add_argument("--restart", action="store_true", help="watch anew from this moment on")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def watch(arguments: argparse.Namespace) -> int:
    """Look once, or until an alarm."""
    from understudy.config.compose import runs_root
    from understudy.pipeline.record import RunRecord, find_run
    from understudy.watch import page
    from understudy.watch import watch as room

    run = RunRecord.read(find_run(runs_root(arguments.root), arguments.run))
    config = composed(run, arguments)
    folder = run.root / "watch" / run.name
    source = run.root / "gateway"
    if arguments.log is not None:
        source = Path(arguments.log).expanduser().absolute()
    if not source.exists():
        raise BadInput(
            f"{source} does not exist; give --log with a gateway's folder or a file of answers"
        )
    is_gateway = source.is_dir()
    if config.watch.action != "none" and not is_gateway:
        raise BadInput(
            f"watch.action={config.watch.action} needs a gateway, and {source} is a file"
        )
    if arguments.restart:
        room.restart(folder)
        print(f"{run.name} is watched anew from now on")
    while True:
        look = room.look(run, config, folder, source, is_gateway)
        room.write(folder / "report.html", page.page(look))
        room.write(folder / "metrics.prom", page.metrics(look))
        _show(look, folder)
        if look.found.word == "ALARM" or config.watch.every_s is None:
            break
        time.sleep(config.watch.every_s)
    if look.found.word == "ALARM" and config.watch.action != "none":
        _act(config.watch.action, folder, source)
    return {"OK": 0, "ALARM": 1}.get(look.found.word, TOO_EARLY)


def composed(run: "RunRecord", arguments: argparse.Namespace) -> "Config":
    """The run's config with the watch's own values and, of a rehearsal, its server."""
    from understudy import config
    from understudy.config.compose import compose

    if odd := [one for one in arguments.overrides if not one.startswith(("watch.", "rehearsal."))]:
        raise BadInput(f"{odd[0]}: a watch takes watch.KEY=VALUE; all else is as in {run.name}")
    values = compose(arguments.overrides, arguments.config_dir)
    return config.build(run.config | {name: values[name] for name in ("watch", "rehearsal")})


def _show(look: "WatchLook", folder: Path) -> None:
    from understudy.config.command_line import command, override
    from understudy.watch.page import sentence
    from understudy.watch.watch import COVERAGE

    print(sentence(look))
    if look.unscored:
        print(f"{look.unscored:,} answers could not be scored; OK counts them at their worst")
    for why, count in look.skipped.items():
        print(f"left out: {count:,} {why}")
    for one in look.drift:
        if one.is_change:
            print(f"changed: {one}")
    if look.is_rehearsal:
        print("rehearsal: stand-ins judged, no LLM")
    print(f"report: {folder / 'report.html'}")
    if look.bad:
        words = ("run", "coverage=file", override("coverage.path", str(folder / COVERAGE)))
        print(f"{len(look.bad):,} prompts for the next run: {command(*words)}")


def _act(action: str, folder: Path, gateway: Path) -> None:
    """Take the traffic off the local model, once: to the one before it, else to the service."""
    from understudy.watch.watch import acted

    if (before := acted(folder)) is not None:
        print(f"the gateway was changed before: {before}")
        return
    root = gateway.parent.parent if gateway.parent.name == "rehearsal" else gateway.parent
    known = [["rollback"], ["set", "mode=record"]]
    for words in known if action == "rollback" else known[1:]:
        done = subprocess.run(
            [sys.executable, "-m", "understudy", "gateway", *words, "--root", str(root)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            said = " ".join(done.stdout.split("\n")).strip()
            print(f"gateway {' '.join(words)}: {said}")
            acted(folder, f"{' '.join(words)}: {said}")
            return
    print(f"the gateway could not be changed: {done.stderr.strip()}", file=sys.stderr)
