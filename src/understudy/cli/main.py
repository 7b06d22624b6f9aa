"""The table of verbs, and what all have in common: exit codes, and how to go on."""

import argparse
import logging
import sys
from pathlib import Path

from understudy import __version__
from understudy.cli import (
    cluster,
    collect,
    config,
    data,
    decide,
    export,
    forget,
    gateway,
    init,
    inject,
    journal,
    judges,
    label,
    plan,
    prefetch,
    preview,
    rehearse,
    route,
    run,
    serve,
    status,
    watch,
)
from understudy.cli.words import VerbParser
from understudy.errors import BudgetSpent, UnderstudyError, from_system

_EXAMPLES = """examples:
  understudy run experiment=demo                     a whole migration, offline, in minutes
  understudy run task=coding data_size=1k seed=1     one round with 1,000 synthetic rows
  understudy run judge=offline_panel trainer=lora    LoRA under three judges
  understudy run sweep=judges data_size=250          a run per judge, every stage once
  understudy plan judge=gpt_4o data_size=1k          calls, dollars, hours; touches nothing
  understudy rehearse -- run judge=paper_panel       the paid path without a key or a cent
  understudy options                                 every group; `options trainer` one of them
  understudy config task=coding                      the composed values and where each is set
  understudy status; understudy report               the latest run
"""
VERBS = (
    *(run, config, init, status, collect, plan, preview, prefetch, decide, route),
    *(judges, label, export, serve, gateway, watch, rehearse, journal, forget, inject, data),
    cluster,
)


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
    """Return all verbs and their arguments; `verb` of what it parses does it."""
    parser = argparse.ArgumentParser(
        prog="understudy",
        description="Move a workload from a service LLM to a small local LLM; prove it is safe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"understudy {__version__}")
    verbs = parser.add_subparsers(
        title="verbs", metavar="VERB", required=True, parser_class=VerbParser
    )
    for verb in VERBS:
        verb.register(verbs)
    return parser


def _command(words: list[str]) -> str:
    from understudy.config.command_line import command  # late, for it loads pydantic

    return command(*words)


if __name__ == "__main__":
    sys.exit(main())
