"""Composing: the only file that imports Hydra. It hands out plain dictionaries.

`compose` gives one config, `grid` the axes of a sweep, `multirun` hands over to Hydra.
"""

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from understudy import config, locations
from understudy.config import command_line, schema
from understudy.errors import BadInput

Memo = dict[tuple[str, ...], Any]  # (search path, config name) → the file as loaded
_OWN: Memo = {}  # the files of conf/, which stay as they are while the program runs


def config_dirs(config_dir: str | None) -> list[Path]:
    """Return where config files are looked up, first wins; BadInput for no directory."""
    own = [locations.shared("conf")]
    if config_dir is None:
        return own
    path = Path(config_dir).expanduser().absolute()
    if not path.is_dir():
        raise BadInput(f"--config-dir={config_dir} is not a directory")
    if "${" in str(path):
        raise BadInput(f"--config-dir={config_dir} has ${{ in it, which Hydra reads; rename it")
    return [path, *own]


def groups(directories: list[Path]) -> dict[str, dict[str, Path]]:
    """Return group → option → file, without the parts that options build on (`_NAME.yaml`)."""
    found: dict[str, dict[str, Path]] = {}
    for directory in reversed(directories):
        for path in directory.glob("*/**/[!_]*.yaml"):
            group, *option = path.relative_to(directory).with_suffix("").parts
            found.setdefault(group, {})["/".join(option)] = path
    return found


class Grid(NamedTuple):
    """Key → its `key=value` overrides, in the order given; `axes` are the keys that are swept."""

    terms: dict[str, list[str]]
    axes: set[str]
    groups: dict[str, list[str]]  # every config group with its options


def compose(overrides: list[str], config_dir: str | None) -> dict[str, Any]:
    """Return what one run is made of; BadInput for what only a sweep takes."""
    return Composer(config_dir).values(_of_one_run(overrides, config_dir))


def origins(overrides: list[str], config_dir: str | None) -> dict[str, str]:
    """Return leaf of what `compose` gives → the file that set it, or the command line."""
    return Composer(config_dir).origins(_of_one_run(overrides, config_dir))


def _of_one_run(overrides: list[str], config_dir: str | None) -> list[str]:
    """The overrides, each key once; BadInput for what only a sweep takes."""
    overrides = command_line.as_typed(overrides)
    with _hydra(config_dir) as hydra:
        parsed = _parse(overrides, config_dir, hydra)
        last = {override.get_key_element(): override for override in parsed}  # as in `grid`
        for override in last.values():
            if override.is_sweep_override():
                raise BadInput(
                    f"{override.input_line} has several values, which only `understudy run` takes"
                )
    return [one.input_line for one in last.values()]


def runs_root(given: str | None) -> Path:
    """Return the folder of the runs: a verb's `--root`, else `paths.root`."""
    root = given or compose([], None)["paths"]["root"]
    return Path(root).expanduser().absolute()


class Composer:
    """Composes overrides that were looked at before: the cells of a sweep."""

    def __init__(self, config_dir: str | None) -> None:
        self._config_dir = config_dir
        self._memo: Memo = {}

    def alone(self, override: str) -> tuple[str, Any] | None:
        """Return leaf and value of an override that changes nothing else; None where it may.

        That is a number or a word for a leaf that no config file interpolates, so that no
        composition is needed to know what it does.
        """
        leaf = override.partition("=")[0]
        named = leaf.startswith("task.") or leaf.rpartition(".")[2] in self._interpolated
        if named or leaf not in config.LEAVES or "${" in override:  # `by_task` reads the task
            return None
        with _hydra(self._config_dir, self._memo) as hydra:
            parser = OverridesParser.create(config_loader=hydra.config_loader)
            (parsed,) = parser.parse_overrides([override])
        value = parsed.value()
        return (leaf, value) if isinstance(value, int | float | str) else None

    @cached_property
    def _interpolated(self) -> set[str]:
        """The words of every `${…}` in the config files."""
        files = (path for place in config_dirs(self._config_dir) for path in place.rglob("*.yaml"))
        found = (re.findall(r"\$\{[^}]*", path.read_text(encoding="utf-8")) for path in files)
        return {word for texts in found for text in texts for word in re.findall(r"\w+", text)}

    def values(self, overrides: list[str]) -> dict[str, Any]:
        """Return the resolved config."""
        with _hydra(self._config_dir, self._memo):
            return _plain(hydra_compose("config", [*overrides, *_searchpath(self._config_dir)]))

    def origins(self, overrides: list[str]) -> dict[str, str]:
        """Return leaf → the file that set it, or the command line."""
        directories = config_dirs(self._config_dir)
        given = [*overrides, *_searchpath(self._config_dir)]
        with _hydra(self._config_dir, self._memo) as hydra:
            chosen = hydra.config_loader.compute_defaults_list("config", given, RunMode.RUN)
        found: dict[str, str] = {}
        for item in chosen.defaults:
            name = f"{item.config_path}.yaml"
            if (home := next((d for d in directories if (d / name).is_file()), None)) is None:
                continue
            for leaf in _leaves_of(home / name):
                found[f"{item.package}.{leaf}" if item.package else leaf] = f"{home.name}/{name}"
        for override in overrides:
            found[override.lstrip("+~").partition("=")[0]] = "command line"
        return found


def grid(overrides: list[str], config_dir: str | None) -> Grid:
    """Return what a command sweeps: the axes of `sweep=` or `experiment=`, and those beside it.

    As in Hydra's own sweeper, a key that is given later replaces the same key.
    """
    overrides = command_line.as_typed(overrides)
    with _hydra(config_dir) as hydra:
        given = _parse(overrides, config_dir, hydra)
        parser = OverridesParser.create(config_loader=hydra.config_loader)
        named = [one for one in given if one.key_or_group in ("sweep", "experiment")]
        if any(one.is_sweep_override() and one.key_or_group == "sweep" for one in named):
            files = ",".join(o for one in named if one.is_sweep_override() for o in _values(one))
            raise BadInput(f"several files of axes are given as sweep=[{files}]")
        fixed = [override.input_line for override in given if not override.is_sweep_override()]
        fixed += _searchpath(config_dir)
        params = _sweeper_params(fixed) if named else {}
        for option in (o for one in named if one.is_sweep_override() for o in _values(one)):
            if _sweeper_params([*fixed, f"experiment={option}"]) != params:
                raise BadInput(f"experiment={option} has axes of its own; give it alone")
        of_file = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
        known = groups(config_dirs(config_dir))
        for override in of_file:
            _check(override, known)
        terms: dict[str, list[str]] = {}
        axes: set[str] = set()
        for number, override in enumerate([*of_file, *given]):
            key = override.get_key_element()
            if override.is_sweep_override():
                given_values = override.sweep_string_iterator()
                terms[key] = [_cell_s(f"{key}={value}") for value in given_values]
            else:
                terms[key] = [override.input_line]
            if override.is_sweep_override() or number < len(of_file):  # or an axis of one value
                axes.add(key)
            else:
                axes.discard(key)
    return Grid(terms, axes, {group: sorted(known[group]) for group in known})


# Of hydra/sweeper=optuna: our scores are better the higher, and a failed cell ends no search.
SEARCH = ("hydra.sweeper.direction=maximize", "hydra.sweeper.max_failure_rate=1")


def is_search(overrides: list[str]) -> bool:
    """Return whether Hydra is to choose the cells, by a sweeper of another kind than its own."""
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("hydra/sweeper=")]
    return bool(chosen) and chosen[-1] != "basic"


def searched(overrides: list[str], config_dir: str | None) -> tuple[list[str], list[str]]:
    """Return the keys that a search chooses, and the overrides that it leaves as they are."""
    overrides = command_line.as_typed(overrides)
    if "hydra/sweeper=optuna" in overrides and find_spec("optuna") is None:
        raise BadInput(
            "hydra/sweeper=optuna needs Hydra's plugin: pip install 'understudy[optuna]'"
        )
    with _hydra(config_dir) as hydra:
        given = _parse(overrides, config_dir, hydra, may_search=True)
        fixed = [override.input_line for override in given if not override.is_sweep_override()]
        params = _sweeper_params([*fixed, *_searchpath(config_dir)])
    keys = [*params, *(o.get_key_element() for o in given if o.is_sweep_override())]
    given_keys = {o.get_key_element() for o in given if not o.is_sweep_override()}
    plain = [word for word in fixed if not word.startswith("hydra")]
    return [key for key in dict.fromkeys(keys) if key not in given_keys], plain


def multirun(
    overrides: list[str],
    config_dir: str | None,
    directory: Path,
    job: Callable[[list[str], dict[str, Any]], float | None],
) -> None:
    """Let Hydra sweep; `job` gets the overrides and values of a cell, and returns its score.

    What Hydra writes goes below `directory`.
    """
    overrides = command_line.as_typed(overrides)

    def task(composed: Any) -> float | None:
        return job([_cell_s(word) for word in HydraConfig.get().overrides.task], _plain(composed))

    modes = ("run", "sweep")
    places = [command_line.override(f"hydra.{mode}.dir", str(directory)) for mode in modes]
    with _hydra(config_dir) as hydra:
        _parse(overrides, config_dir, hydra, may_search=is_search(overrides))
        given = [*overrides, *_searchpath(config_dir), *places]
        hydra.multirun("config", task, given, with_log_configuration=False)


def flat(values: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted leaves of nested mappings, without Hydra's `defaults`."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            leaves |= flat(value, f"{name}.")
        elif name != "defaults":
            leaves[name] = value
    return leaves


class _Remembering(ConfigRepository):  # type: ignore[misc]
    """Hydra's repository of files, each read once for all compositions that share a memo."""

    def __init__(self, plain: Any, memo: Memo) -> None:
        self.sources = plain.sources
        self._memo = memo

    def __deepcopy__(self, _: Any) -> "_Remembering":
        return copy.copy(self)  # with the same memo

    def load_config(self, config_path: str) -> Any:
        key = (*(source.path for source in self.sources), config_path)
        if key not in self._memo:
            self._memo[key] = super().load_config(config_path)
        loaded = copy.copy(self._memo[key])
        if loaded is not None:  # a composition merges others into what it has loaded
            loaded.config = copy.deepcopy(loaded.config)
        return loaded


@contextmanager
def _hydra(config_dir: str | None, memo: Memo | None = None) -> Iterator[Any]:
    """Hydra, looking at our directories; its errors become one sentence."""
    OmegaConf.register_new_resolver("by_task", _by_task, replace=True)
    try:
        with initialize_config_dir(str(config_dirs(config_dir)[-1]), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            loader, read = hydra.config_loader, _OWN if config_dir is None else memo
            if read is not None:
                loader.repository = _Remembering(loader.repository, read)
            yield hydra
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(" ".join(str(error).split())) from None


def _by_task(table: dict[str, Any], *, _root_: Any) -> Any:
    """`${by_task:{coding:1,closed_qa:2}}` in a config file: the value for the task of the run."""
    task = _root_.task.name
    if task not in table:
        raise BadInput(f"task={task} has no value here; those that have are {', '.join(table)}")
    return table[task]


def _plain(composed: Any) -> dict[str, Any]:
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict), "the primary config is a mapping"
    return {str(key): value for key, value in values.items()}


def _searchpath(config_dir: str | None) -> list[str]:
    directories = config_dirs(config_dir)[:-1]
    paths = ",".join(command_line.quoted(f"file://{path}") for path in directories)
    return [f"hydra.searchpath=[{paths}]"] if directories else []


def _sweeper_params(overrides: list[str]) -> dict[str, Any]:
    """`hydra.sweeper.params` as composed: what a sweep file holds."""
    composed = hydra_compose("config", overrides, return_hydra_config=True)
    params = OmegaConf.to_container(composed.hydra.sweeper, resolve=False)
    assert isinstance(params, dict), "Hydra's sweeper is a mapping"
    return dict(params.get("params") or {})


@cache
def _leaves_of(path: Path) -> list[str]:
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return list(flat(content if isinstance(content, dict) else {}))


def _parse(
    overrides: list[str], config_dir: str | None, hydra: Any, may_search: bool = False
) -> list[Any]:
    """The parsed overrides; one sentence for what Hydra would answer with a page."""
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    known = groups(config_dirs(config_dir))
    parsed = []
    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise BadInput(f"{text} is not of the form key=value")
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:  # also the parent of OverrideParseException
            message = str(error).splitlines()[0]
            raise BadInput(f"{text} cannot be read as key=value: {message}") from None
        if not (may_search and override.is_interval_sweep()):
            _check(override, known)
        elif not _is_known(override.key_or_group, config.LEAVES):
            raise BadInput(f"{text}: {override.key_or_group} is no leaf, so it has no interval")
        parsed.append(override)
    return parsed


def _check(override: Any, known: dict[str, dict[str, Path]]) -> None:
    """Whether key, option and axis exist."""
    key, text = override.key_or_group, override.input_line
    values = [override.value()]
    if override.is_interval_sweep():
        raise BadInput(
            f"{text}: an interval has no cells; use range() or choice(), "
            "or search it with -m hydra/sweeper=optuna"
        )
    if override.is_sweep_override():
        values = _values(override)
        if not values:
            raise BadInput(f"{text} matches none of {', '.join(sorted(known.get(key, [])))}")
    if key in known and not override.is_delete():
        for value in values:
            for option in value if key == "sweep" and isinstance(value, list) else [value]:
                if not isinstance(option, dict):
                    _check_option(key, option, known[key])
    elif not (key in known or _is_known(key, config.LEAVES) or override.is_hydra_override()):
        roots = (leaf.split(".")[0] for leaf in config.LEAVES)
        choices = sorted({*config.LEAVES, *known, *roots})
        near = schema.suggest(key, choices) or f"; the groups are {', '.join(sorted(known))}"
        raise BadInput(f"{key} is not a config key or group{near}")


def _cell_s(word: str) -> str:
    """One value of an axis as Hydra's sweeper writes it, as `as_typed` reads it."""
    key, _, text = word.partition("=")
    if not config.is_path(key) or command_line.is_hydras(text):
        return word
    (override,) = OverridesParser.create().parse_overrides([word])
    return command_line.override(key, str(override.value()))


def _values(override: Any) -> list[Any]:
    """What an axis runs over."""
    return [getattr(value, "text", value) for value in override.sweep_iterator()]


def _check_option(group: str, value: Any, options: dict[str, Path]) -> None:
    choices = f"choose from {', '.join(sorted(options))}"
    if value in ("", None):
        raise BadInput(f"{group}= is empty; {choices}")
    if not isinstance(value, str) or value not in options:
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
