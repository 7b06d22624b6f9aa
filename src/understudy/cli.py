"""The command line: verbs, and the only place where Hydra composes a config."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from understudy import __version__, locations
from understudy.errors import BadInput, UnderstudyError, from_system

_EXAMPLES = """examples:
  understudy run experiment=demo                     a whole migration, offline, in minutes
  understudy run task=coding data_size=1k seed=1     one round with 1,000 synthetic rows
  understudy run judge=offline_panel trainer=lora    three judges, LoRA
  understudy options                                 every group; `options trainer` one of them
  understudy config task=coding                      the composed values and where each is set
  understudy status; understudy report               the latest run
"""


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 no, 2 bad input, 3 budget, 4 environment, 70 ours, 130 Ctrl-C."""
    arguments = _parser().parse_args(argv)
    logging.captureWarnings(True)
    try:
        return int(arguments.verb(arguments) or 0)
    except UnderstudyError as error:
        if str(error):
            print(f"understudy: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\ninterrupted; nothing is lost. To go on: {_command(argv)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left
        sys.stderr.close()
        return 0
    except OSError as error:
        if (machine := from_system(error, Path.cwd())) is None:
            raise
        print(f"understudy: {machine}", file=sys.stderr)
        return machine.exit_code


def _parser() -> argparse.ArgumentParser:
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
    sub = add("options", _options, "list the config groups, or the options of one")
    sub.add_argument("group", nargs="?", help="a group, e.g. trainer")
    _add_config_dir(sub)
    for name, verb, help_ in (
        ("status", _status, "show what a run has done, and how to go on"),
        ("report", _report, "write a run's report: one self-contained HTML page"),
    ):
        sub = add(name, verb, help_)
        sub.add_argument(
            "run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)"
        )
        sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    return parser


def _add_config_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def _command(argv: list[str] | None) -> str:
    import shlex

    return shlex.join(["understudy", *(sys.argv[1:] if argv is None else argv)])


# --- verbs ---------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    from understudy import config, pipeline
    from understudy.report import report

    composed = config.build(compose(arguments.overrides, arguments.config_dir)[0])
    command = ["understudy", "run", *arguments.overrides]
    if arguments.config_dir:
        command += ["--config-dir", arguments.config_dir]
    run = pipeline.Run(composed, command)
    print(f"{run.directory.name}: {run.directory}", file=sys.stderr)
    if composed.is_rehearsal:
        print("rehearsal: offline stand-ins are asked, no LLM; nothing is paid", file=sys.stderr)
    decision = run.execute()
    page = run.directory / "report.html"
    if run.computed or not page.is_file():
        page = report(run.root, run.directory / "run.json")
    print(f"{'passed' if decision['passed'] else 'not passed'}: {decision['reason']}")
    print(f"stages run: {run.computed}")
    print(f"report: {page}")
    return 0


def _config(arguments: argparse.Namespace) -> None:
    from understudy import config

    values, origins = compose(arguments.overrides, arguments.config_dir)
    config.build(values)
    for leaf, value in _flat(values):
        print(f"{leaf}: {value!r}  # {origins.get(leaf, 'schema default')}")


def _options(arguments: argparse.Namespace) -> None:
    groups = _groups(_config_dirs(arguments.config_dir))
    if arguments.group is None:
        for group, options in sorted(groups.items()):
            print(f"{group:<12} {' · '.join(sorted(options))}")
        return
    if arguments.group not in groups:
        raise BadInput(_no_such_group(arguments.group, sorted(groups)))
    for option, path in sorted(groups[arguments.group].items()):
        comments = [line[1:].strip() for line in path.read_text().splitlines() if line[:1] == "#"]
        about = next((line for line in comments if not line.startswith("@package")), "")
        print(f"{arguments.group}={option:<20} {about}")


def _no_such_group(word: str, groups: list[str]) -> str:
    from understudy import schema

    return f"{word} is not a config group{schema.suggest(word, groups)}"


def _status(arguments: argparse.Namespace) -> None:
    from understudy import status

    status.show(status.find_run(_root(arguments), arguments.run))


def _report(arguments: argparse.Namespace) -> None:
    from understudy import report, status

    run_json = status.find_run(_root(arguments), arguments.run)
    print(f"report: {report.report(run_json.parents[2], run_json)}")


def _root(arguments: argparse.Namespace) -> Path:
    root = arguments.root or compose([], None)[0]["paths"]["root"]
    return Path(root).expanduser().absolute()


# --- composing -----------------------------------------------------------------------------------


def _config_dirs(config_dir: str | None) -> list[Path]:
    """Where config files are looked up, first wins; BadInput when the user's is no directory."""
    own = [locations.shared("conf")]
    if config_dir is None:
        return own
    path = Path(config_dir).expanduser().absolute()
    if not path.is_dir():
        raise BadInput(f"--config-dir={config_dir} is not a directory")
    return [path, *own]


def _groups(directories: list[Path]) -> dict[str, dict[str, Path]]:
    """Group → option → file."""
    groups: dict[str, dict[str, Path]] = {}
    for directory in reversed(directories):
        for path in directory.glob("*/*.yaml"):
            groups.setdefault(path.parent.name, {})[path.stem] = path
    return groups


def compose(overrides: list[str], config_dir: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The composed values, and the origin of each leaf."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    directories = _config_dirs(config_dir)
    _check_overrides(overrides, _groups(directories))
    search = [f"hydra.searchpath=[{','.join(f'file://{path}' for path in directories[:-1])}]"]
    given = [*overrides, *(search if config_dir else [])]
    try:
        with initialize_config_dir(str(directories[-1]), version_base="1.3"):
            values = OmegaConf.to_container(hydra_compose("config", given), resolve=True)
            loader = GlobalHydra.instance().config_loader()
            chosen = loader.compute_defaults_list("config", given, RunMode.RUN).defaults
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(" ".join(str(error).split())) from None
    origins: dict[str, str] = {}
    for item in chosen:
        name = f"{item.config_path}.yaml"
        if (home := next((d for d in directories if (d / name).is_file()), None)) is None:
            continue
        content = OmegaConf.to_container(OmegaConf.load(home / name), resolve=False)
        for leaf, _ in _flat(content if isinstance(content, dict) else {}):
            origins[f"{item.package}.{leaf}" if item.package else leaf] = f"{home.name}/{name}"
    for override in overrides:
        origins[override.lstrip("+~").partition("=")[0]] = "command line"
    assert isinstance(values, dict), "the primary config is a mapping"
    return {str(key): value for key, value in values.items()}, origins


def _check_overrides(overrides: list[str], groups: dict[str, dict[str, Path]]) -> None:
    """One sentence for what Hydra would answer with a page."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from understudy import config, schema

    known = config.LEAVES
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise BadInput(f"{text} is not of the form key=value")
        try:
            override = OverridesParser.create().parse_override(text)
        except HydraException as error:  # also the parent of OverrideParseException
            message = str(error).splitlines()[0]
            raise BadInput(f"{text} cannot be read as key=value: {message}") from None
        key, value = override.key_or_group, override.value()
        if key in groups and not isinstance(value, dict):
            _check_option(key, value, groups[key])
        elif key not in groups and not _is_known(key, known) and not key.startswith("hydra."):
            choices = sorted({*known, *groups, *(leaf.split(".")[0] for leaf in known)})
            near = schema.suggest(key, choices) or f"; the groups are {', '.join(sorted(groups))}"
            raise BadInput(f"{key} is not a config key or group{near}")


def _check_option(group: str, value: Any, options: dict[str, Path]) -> None:
    choices = f"choose from {', '.join(sorted(options))}"
    if value in ("", None) and group != "experiment":
        raise BadInput(f"{group}= is empty; {choices}")
    if value is not None and value not in options:
        from understudy import schema

        near = schema.suggest(str(value), sorted(options))
        hint = near if near.startswith("; did") else ""
        raise BadInput(f"{group}={value} is not an option{hint} ({choices})")


def _is_known(key: str, leaves: list[str]) -> bool:
    """Whether `key` is a leaf or a branch; `*` in a leaf stands for any name."""
    parts = key.split(".")
    return any(
        len(parts) <= len(names)
        and all(a in (b, "*") or b == "*" for a, b in zip(parts, names, strict=False))
        for names in (leaf.split(".") for leaf in leaves)
    )


def _flat(values: dict[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted leaves of nested mappings, without Hydra's `defaults`."""
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat += _flat(value, f"{name}.")
        elif name != "defaults":
            flat.append((name, value))
    return flat


if __name__ == "__main__":
    sys.exit(main())
