"""The verbs `config` and `options`: what a run is composed of, and of what it could be."""

import argparse
from typing import Any

from understudy.errors import BadInput


def register(verbs: Any) -> None:
    """Add `config` and `options` to the verbs."""
    help_ = "show the composed config with the origin of each value"
    sub = verbs.add_parser("config", help=help_, description=help_)
    sub.set_defaults(verb=_config)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="group=option or key=value")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")
    help_ = "list the config groups, or the options of one"
    sub = verbs.add_parser("options", help=help_, description=help_)
    sub.set_defaults(verb=_options)
    sub.add_argument("group", nargs="?", help="a group, e.g. trainer")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def _config(arguments: argparse.Namespace) -> None:
    from understudy import config
    from understudy.config.compose import compose, flat, origins

    values = compose(arguments.overrides, arguments.config_dir)
    config.build(values)
    told = origins(arguments.overrides, arguments.config_dir)
    for leaf, value in flat(values).items():
        print(f"{leaf}: {value!r}  # {told.get(leaf, 'schema default')}")


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
