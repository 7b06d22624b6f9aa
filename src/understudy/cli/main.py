"""The command line: verbs. Configs are composed in compose.py."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy import __version__
from understudy.cli import (
    cluster,
    collect,
    data,
    decide,
    export,
    gateway,
    inject,
    journal,
    plan,
    preview,
    rehearse,
    route,
    serve,
)
from understudy.errors import BadInput, BudgetSpent, UnderstudyError, from_system

if TYPE_CHECKING:
    from understudy.config.compose import Composed, Grid

_EXAMPLES = """examples:
  understudy run experiment=demo                     a whole migration, offline, in minutes
  understudy run task=coding data_size=1k seed=1     one round with 1,000 synthetic rows
  understudy run judge=offline_panel trainer=lora    three judges, LoRA
  understudy run sweep=judges data_size=250          a run per judge, every stage once
  understudy plan judge=gpt_4o data_size=1k          calls, dollars, hours; touches nothing
  understudy rehearse -- run judge=paper_panel       the paid path without a key or a cent
  understudy options                                 every group; `options trainer` one of them
  understudy config task=coding                      the composed values and where each is set
  understudy status; understudy report               the latest run
"""
_REHEARSAL = "rehearsal: stand-ins are asked, no result of it is about an LLM"


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 no, 2 bad input, 3 budget, 4 environment, 70 ours, 130 Ctrl-C."""
    arguments = parser().parse_args(argv)
    logging.captureWarnings(True)
    try:
        code = int(arguments.verb(arguments) or 0)
    except UnderstudyError as error:
        if str(error):
            print(f"understudy: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        again = _command(_words(argv))
        print(f"\ninterrupted; nothing is lost. To go on: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        return 0
    except OSError as error:
        if (machine := from_system(error, Path.cwd())) is None:
            raise
        print(f"understudy: {machine}", file=sys.stderr)
        code = machine.exit_code
    if code == BudgetSpent.exit_code:
        print(f"nothing is lost. To go on: {_command(_raised(_words(argv)))}", file=sys.stderr)
    return code


def _words(argv: list[str] | None) -> list[str]:
    return sys.argv[1:] if argv is None else argv


def _raised(words: list[str]) -> list[str]:
    """The command with twice the budget that it names; a provider's quota has nothing to raise."""
    usd = [float(word.partition("=")[2]) for word in words if word.startswith("budget.usd=")]
    return [f"budget.usd={2 * usd[-1]:g}" if w.startswith("budget.usd=") else w for w in words]


def parser() -> argparse.ArgumentParser:
    """All verbs and their arguments; `verb` of what it parses does it."""
    parser = argparse.ArgumentParser(
        prog="understudy",
        description="Move a workload from a service LLM to a small local LLM; prove it is safe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, verb: Callable[[argparse.Namespace], int | None], help_: str) -> Any:
        sub = verbs.add_parser(name, help=help_, description=help_)
        sub.set_defaults(verb=verb)
        return sub

    composed = (
        ("run", _run, "run the rounds until the gate passes or the ladder ends; resumes"),
        ("config", _config, "show the composed config with the origin of each value"),
    )
    for name, verb, help_ in composed:
        sub = add(name, verb, help_)
        sub.add_argument(
            "overrides", nargs="*", metavar="KEY=VALUE", help="group=option or key=value"
        )
        _add_config_dir(sub)
        if name == "run":
            sub.add_argument("-m", "--multirun", action="store_true", help="let Hydra sweep")
    sub = add("options", _options, "list the config groups, or the options of one")
    sub.add_argument("group", nargs="?", help="a group, e.g. trainer")
    _add_config_dir(sub)
    sub = add("init", _init, "look at a file of yours and propose a config for it")
    sub.add_argument("file", metavar="FILE", help="JSONL, JSON, CSV or parquet")
    sub.add_argument("--out", metavar="DIR", default="understudy-conf", help="default: %(default)s")
    sub.add_argument("--model", default="tiny", help="whose context the rows should fit in")
    sub.add_argument("--force", action="store_true", help="overwrite option files")
    for name, verb, help_ in (
        ("status", _status, "show what a run has done, and how to go on"),
        ("report", _report, "write a run's report: one self-contained HTML page"),
    ):
        sub = add(name, verb, help_)
        sub.add_argument(
            "run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)"
        )
        sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    for more in (
        *(collect, plan, preview, decide, route),
        *(export, serve, gateway),
        *(rehearse, journal, inject, data, cluster),
    ):
        more.register(verbs)
    return parser


def _add_config_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def _command(words: list[str]) -> str:
    from understudy.config.command_line import command  # late, for it loads pydantic

    return command(*words)


# --- verbs ---------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from understudy import config
    from understudy.config.compose import grid
    from understudy.models import ranks
    from understudy.pipeline import run as pipeline
    from understudy.report.page import report

    ranks.end_like_ctrl_c()  # `kill`, systemd, a container that stops
    if arguments.multirun:
        return _multirun(arguments)
    if (found := grid(arguments.overrides, arguments.config_dir)).axes:
        return _sweep(arguments, found)
    composed = config.build(compose(arguments.overrides, arguments.config_dir).values)
    run = pipeline.Run(composed, _typed(arguments, arguments.overrides))
    print(f"{run.directory.name}: {run.directory}", file=sys.stderr)
    if composed.is_rehearsal:
        print(_REHEARSAL, file=sys.stderr)
    if composed.cluster.kind != "local" and cluster.submit(run.directory, [run], run.command):
        return 0
    decision = run.execute()
    page = run.directory / "report.html"
    if run.computed or not page.is_file():
        page = report(run.record.path)
    print(f"{'passed' if decision.passed else 'not passed'}: {decision.reason}")
    print(f"stages run: {run.computed}")
    print(f"report: {page}")
    return 0


def _typed(arguments: argparse.Namespace, overrides: list[str]) -> list[str]:
    """The command that runs these overrides."""
    own = ["--config-dir", arguments.config_dir] if arguments.config_dir else []
    return ["understudy", "run", *overrides, *own]


def _sweep(arguments: argparse.Namespace, found: "Grid") -> int:
    from understudy.config.compose import Composer
    from understudy.sweep import cells as sweep_cells
    from understudy.sweep import sweep

    cells = sweep_cells.expand(found, Composer(arguments.config_dir))
    command = _typed(arguments, arguments.overrides)
    job = sweep.Sweep(cells, command, lambda overrides: _typed(arguments, overrides))
    if cells.cells[0].config.cluster.kind != "local":
        runs, write = [lane.run for lane in job.lanes], job.write
        if cluster.submit(job.directory, runs, job.record["command"], write):
            return 0
    print(f"{cells.name}: {job.outline()}", file=sys.stderr)
    if job.record["rehearsal"]:
        print(_REHEARSAL, file=sys.stderr)
    code = job.execute()
    sweep.show(job.file)
    print(f"cells: {len(cells.cells)}, stages run: {job.computed}, finished before: {job.kept}")
    return code


def _multirun(arguments: argparse.Namespace) -> int:
    """Let Hydra sweep, one cell after the other, its own files below paths.root."""
    from understudy.config import compose as composing
    from understudy.pipeline import run as pipeline
    from understudy.sweep import cells as sweep_cells

    grid = composing.grid(arguments.overrides, arguments.config_dir)
    cells = sweep_cells.expand(grid, composing.Composer(arguments.config_dir))
    if (kind := cells.cells[0].config.cluster.kind) != "local":
        raise BadInput(f"-m runs cell after cell on this machine; leave it out with cluster={kind}")
    by_label = {cell.label: cell for cell in cells.cells}
    codes, runs = [0], list[pipeline.Run]()

    def job(overrides: list[str], values: dict[str, Any]) -> None:
        cell = by_label[sweep_cells.label_of(overrides, cells.axes)]
        try:
            run = pipeline.Run(cell.as_in(values), _typed(arguments, cell.overrides))
            runs.append(run)
            decision = run.execute()
            verdict = "passed" if decision.passed else "not passed"
            print(f"{run.directory.name}: {verdict}: {decision.reason}")
        except UnderstudyError as error:
            codes.append(error.exit_code)
            print(f"understudy: cell {cell.label} failed. {error}", file=sys.stderr)

    root = pipeline.run_root(cells.cells[0].config)
    composing.multirun(arguments.overrides, arguments.config_dir, root / "hydra" / cells.name, job)
    print(f"cells: {len(cells.cells)}, stages run: {sum(run.computed for run in runs)}")
    return max(codes)


def _config(arguments: argparse.Namespace) -> None:
    from understudy import config
    from understudy.config.compose import flat

    values, origins = compose(arguments.overrides, arguments.config_dir)
    config.build(values)
    for leaf, value in flat(values).items():
        print(f"{leaf}: {value!r}  # {origins.get(leaf, 'schema default')}")


def _options(arguments: argparse.Namespace) -> None:
    from understudy.config import schema
    from understudy.config.compose import config_dirs
    from understudy.config.compose import groups as config_groups

    groups = config_groups(config_dirs(arguments.config_dir))
    if arguments.group is None:
        for group, options in sorted(groups.items()):
            print(f"{group:<12} {' · '.join(sorted(options))}")
        return
    if arguments.group not in groups:
        near = schema.suggest(arguments.group, sorted(groups))
        raise BadInput(f"{arguments.group} is not a config group{near}")
    for option, path in sorted(groups[arguments.group].items()):
        comments = [line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#"]
        about = next((line for line in comments if not line.startswith("@package")), "")
        print(f"{arguments.group}={option:<20} {about}")


def _init(arguments: argparse.Namespace) -> int:
    from understudy import config
    from understudy.collect import init

    composed = config.build(compose([f"model={arguments.model}"], None).values)
    return init.main(arguments.file, arguments.out, arguments.force, composed)


def _status(arguments: argparse.Namespace) -> None:
    from understudy.pipeline import status
    from understudy.pipeline.record import find_run
    from understudy.sweep import sweep

    root = _root(arguments)
    if (found := sweep.find_sweep(root, arguments.run)) is not None:
        sweep.show(found)
    else:
        status.show(find_run(root, arguments.run))


def _report(arguments: argparse.Namespace) -> None:
    from understudy.pipeline.record import find_run
    from understudy.report import page as report
    from understudy.sweep import sweep

    root = _root(arguments)
    found = sweep.find_sweep(root, arguments.run)
    runs = sweep.run_files(found) if found else [find_run(root, arguments.run)]
    for run_json in runs:
        print(f"report: {report.report(run_json)}")


def _root(arguments: argparse.Namespace) -> Path:
    root = arguments.root or compose([], None)[0]["paths"]["root"]
    return Path(root).expanduser().absolute()


def compose(overrides: list[str], config_dir: str | None) -> "Composed":
    """The composed values, and the origin of each leaf."""
    from understudy.config.compose import compose

    return compose(overrides, config_dir)


if __name__ == "__main__":
    sys.exit(main())
