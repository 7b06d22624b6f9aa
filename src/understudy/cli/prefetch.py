"""The verb `prefetch`: models and data sets of a command, into the cache before it is typed."""

import argparse
from typing import Any

from understudy.errors import BadInput

_HELP = "bring a command's models and data sets into the cache, or say what is missing"


def register(verbs: Any) -> None:
    """Add `prefetch` to the verbs."""
    sub = verbs.add_parser("prefetch", help=_HELP, description=f"{_HELP}. HF_HOME says where.")
    sub.set_defaults(verb=_prefetch)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for `understudy run`")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def _prefetch(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from understudy.sweep import prefetch
    from understudy.sweep.cells import configs_of

    configs, _ = configs_of(arguments.overrides, arguments.config_dir)
    record = Path(configs[0].paths.root).expanduser() / "hub.json"
    lacking = []
    for found in prefetch.fetch(configs, record):
        if found.problem is not None:
            lacking.append(f"{found.item.group}: {found.problem}")
        else:
            print(f"{found.item.title}: {'fetched' if found.is_fetched else 'here'}", flush=True)
    if lacking:
        raise BadInput(f"{len(lacking)} missing: " + " · ".join(lacking))
