"""The verb `init`: look at a file of the user's and propose a config for it."""

import argparse
from typing import Any

_HELP = "look at a file of yours and propose a config for it"


def register(verbs: Any) -> None:
    """Add `init` to the verbs."""
    sub = verbs.add_parser("init", help=_HELP, description=_HELP)
    sub.set_defaults(verb=_init)
    sub.add_argument("file", metavar="FILE", help="JSONL, JSON, CSV or parquet")
    sub.add_argument("--out", metavar="DIR", default="understudy-conf", help="default: %(default)s")
    sub.add_argument("--model", default="tiny", help="whose context the rows should fit in")
    sub.add_argument("--force", action="store_true", help="overwrite option files")


def _init(arguments: argparse.Namespace) -> int:
    from understudy import config
    from understudy.collect import init
    from understudy.config.compose import compose

    composed = config.build(compose([f"model={arguments.model}"], None))
    return init.main(arguments.file, arguments.out, arguments.force, composed)
