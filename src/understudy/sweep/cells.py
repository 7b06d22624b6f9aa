"""The cells of a sweep: which there are, what each is called, and what a sweep refuses."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from understudy import config
from understudy.config import Config
from understudy.config.compose import Composer, Grid, compose, flat, grid
from understudy.errors import BadInput
from understudy.pipeline.run import run_name
from understudy.store.artifacts import fingerprint


@dataclass
class Cell:
    """One combination of axis values: what to type to get it, and its config."""

    label: str  # the axes' values only
    overrides: list[str]
    config: Config
    values: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of its run."""
        return run_name(self.config)

    def as_in(self, values: dict[str, Any]) -> Config:
        """The config of this cell as Hydra composed it, with what a sweep adds: name and judges."""
        return config.build(values | {key: self.values[key] for key in ("run", "judges")})


Choice = tuple[str, ...]  # the overrides that one value of an axis stands for


class Cells(NamedTuple):
    """All cells of a sweep, its name, and the values of each axis."""

    name: str
    axes: dict[str, list[str]]
    cells: list[Cell]


def expand(grid: Grid, composer: Composer) -> Cells:
    """Return all cells, the last axis varying fastest; BadInput when a cell is wrong or refused.

    Every value of an axis is composed once, beside the first values of all others, and cells are
    put together from these. Axes that touch the same leaf are composed together. An axis of numbers
    or words for one leaf needs no composition: its values are put in.
    """
    parts = _Parts(grid, composer)
    cells = [parts.cell(choices) for choices in itertools.product(*parts.axes.values())]
    for cell in cells:
        check(cell, grid.axes)
    _check_names(cells)
    swept = {key: terms for key, terms in grid.terms.items() if key in grid.axes}
    if (given := parts.base["run"]["name"]) is not None:
        return Cells(suffixed(given), swept, cells)
    named = [grid.terms[key] for key in ("sweep", "experiment") if key in grid.terms]
    kind = next((term.partition("=")[2] for term, *others in named if not others), "sweep")
    name = suffixed(kind, fingerprint(sorted(cell.name for cell in cells))[:8])
    return Cells(name, swept, cells)


def configs_of(overrides: list[str], config_dir: str | None) -> tuple[list[Config], str]:
    """Return the config of the run or of every cell that a command asks for, and who pays."""
    if (found := grid(overrides, config_dir)).axes:
        cells = expand(found, Composer(config_dir))
        return [cell.config for cell in cells.cells], f"sweep/{cells.name}"
    one = config.build(compose(overrides, config_dir))
    return [one], f"run/{run_name(one)}"


def label_of(overrides: Iterable[str], axes: Iterable[str]) -> str:
    """Return the values of the axes alone, as a person would call the cell."""
    pairs = [override.partition("=") for override in overrides]
    return " ".join(value for key, _, value in pairs if key in axes)


class _Parts:
    """The composed parts that cells are put together from."""

    def __init__(self, grid: Grid, composer: Composer) -> None:
        self._composer = composer
        self._made: dict[tuple[str, ...], dict[str, Any]] = {}
        self._grid = grid
        self.axes: dict[str, list[Choice]] = {}
        for key in (key for key in grid.terms if key in grid.axes):
            self.axes[key] = [(term,) for term in grid.terms[key]]
        self.first = [choices[0] for choices in self.axes.values()]
        self._alone = self._look_for_alone()
        if "judge" in self.axes:
            self.axes["judge"] = [self._with_gate_judges(choice) for choice in self.axes["judge"]]
            self.first = [choices[0] for choices in self.axes.values()]
        self.base = self.composed(self.first)
        self.blocks = _connected([self._touched(number) for number in range(len(self.axes))])
        last = [choices[-1] for choices in self.axes.values()]
        if len(self.blocks) > 1 or self._alone:
            whole = self._composer.values(self.overrides(last))
            if self.values(last) != whole:
                self.blocks = [list(range(len(self.axes)))]  # they meet in a way not seen above
                self._alone.clear()
                self._made.clear()

    def overrides(self, choices: Sequence[Choice]) -> list[str]:
        """Fixed and chosen overrides in the order given, as Hydra's sweeper hands them on."""
        chosen: dict[str, Choice] = dict(zip(self.axes, choices, strict=True))
        terms = self._grid.terms.items()
        return [term for key, given in terms for term in chosen.get(key, tuple(given))]

    def composed(self, choices: Sequence[Choice]) -> dict[str, Any]:
        overrides = tuple(self.overrides(choices))
        if overrides not in self._made:
            others, leaves = list(choices), dict[str, Any]()
            for number, choice in enumerate(choices):
                if choice != self.first[number] and choice in self._alone:
                    others[number] = self.first[number]
                    leaf, value = self._alone[choice]
                    leaves[leaf] = value
            if leaves:
                self._made[overrides] = config.changed(self.composed(others), leaves)
            else:
                self._made[overrides] = self._composer.values(list(overrides))
        return self._made[overrides]

    def _look_for_alone(self) -> dict[Choice, tuple[str, Any]]:
        """The choices of axes that set one leaf and nothing else, whatever else is chosen."""
        if any("${" in term for terms in self._grid.terms.values() for term in terms):
            return {}
        found = dict[Choice, tuple[str, Any]]()
        for choices in self.axes.values():
            each = [self._composer.alone(choice[0]) for choice in choices]
            if all(one is not None for one in each):
                found |= {c: one for c, one in zip(choices, each, strict=True) if one is not None}
        return found

    def values(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """Return the config of a cell: what each block changes, put into the first cell's."""
        values = self.base
        for block in self.blocks:
            part = [choices[n] if n in block else self.first[n] for n in range(len(choices))]
            values = overlay(values, self.base, self.composed(part))
        return values

    def cell(self, choices: Sequence[Choice]) -> Cell:
        overrides, values = self.overrides(choices), self.values(choices)
        label = label_of(overrides, self.axes)
        if (name := values["run"]["name"]) is not None:
            name = suffixed(name, label)
            values = values | {"run": values["run"] | {"name": name}}
            overrides = [o for o in overrides if not o.startswith("run.name=")]
            overrides.append(f"run.name={name}")
        try:
            return Cell(label, overrides, config.build(values), values)
        except BadInput as error:
            raise BadInput(f"cell {label}: {error}") from None

    def _touched(self, number: int) -> set[str]:
        """The leaves that an axis may set: whose value or origin differs, and the key itself."""
        key = list(self.axes)[number]
        touched = {key.lstrip("+~")}
        if self.first[number] in self._alone:
            return touched
        for choice in self.axes[key][1:]:
            other = [choice if n == number else c for n, c in enumerate(self.first)]
            touched |= _differing(flat(self.base), flat(self.composed(other)))
            if key.lstrip("+~").partition("@")[0] in self._grid.groups:
                touched |= _differing(self._origins, self._composer.origins(self.overrides(other)))
        return touched

    @cached_property
    def _origins(self) -> dict[str, str]:
        return self._composer.origins(self.overrides(self.first))

    def _with_gate_judges(self, choice: Choice) -> Choice:
        """A judge together with those that decide in every cell, whoever else judges there."""
        chosen = [choice if key == "judge" else terms[0] for key, terms in self.axes.items()]
        values = self.composed(chosen)
        missing = [name for name in values["gate"]["judges"] or [] if name not in values["judges"]]
        added = [
            f"+service@judges.{name}={name}"
            for name in missing
            if name in self._grid.groups["service"]
        ]
        return (*choice, *added)


def check(cell: Cell, axes: set[str]) -> None:
    """What a sweep refuses: cells whose fine-tunings could depend on who judges, or on order."""
    if cell.config.trainer.start == "previous":
        raise BadInput(
            "trainer.start=previous builds a round on the one before, so cells could not share "
            "models; leave trainer.start=base in a sweep"
        )
    # A cell of one round grows nothing, so there the judge cannot change what is trained.
    climbs = cell.config.inference.kind == "local" and len(cell.config.sizes) > 1
    if "judge" in axes and cell.config.gate.judges is None and climbs:
        raise BadInput(
            "a sweep over judge that climbs the ladder needs gate.judges=[NAME,…], the judges "
            "that decide in every cell, or one round a cell with data_size=…"
        )


def suffixed(name: str, label: str = "") -> str:
    """Return a run's name with the cell's values behind it, fit for a directory."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{name}-{label}").strip("-")


def _check_names(cells: list[Cell]) -> None:
    if len({cell.config.paths.root for cell in cells}) > 1:
        raise BadInput("paths.root cannot be swept: a sweep has one root")
    seen: dict[str, Cell] = {}
    for cell in cells:
        if (other := seen.setdefault(cell.name, cell)) is not cell:
            raise BadInput(
                f"cells '{other.label}' and '{cell.label}' would both be run {cell.name}: "
                "nothing that can change a result tells them apart"
            )


def overlay(values: Any, old: Any, new: Any) -> Any:
    """`values` with what differs between `old` and `new` put in; nothing is changed in place."""
    if old == new:
        return values
    if not (isinstance(values, dict) and isinstance(old, dict) and isinstance(new, dict)):
        return new
    added = [key for key in values if key not in new and key not in old]  # by another axis
    merged = {}
    for key in (*new, *added):
        if key not in new:
            merged[key] = values[key]
        elif key not in old or key not in values:
            merged[key] = new[key]
        else:
            merged[key] = overlay(values[key], old[key], new[key])
    return merged


_ABSENT = object()


def _differing(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    keys = old.keys() | new.keys()
    return {key for key in keys if old.get(key, _ABSENT) != new.get(key, _ABSENT)}


def _connected(touched: list[set[str]]) -> list[list[int]]:
    """The axes in blocks, such that axes of different blocks touch no leaf in common."""
    blocks: list[tuple[list[int], set[str]]] = []
    for number, leaves in enumerate(touched):
        apart = [block for block in blocks if not _meet(block[1], leaves)]
        joined = [block for block in blocks if _meet(block[1], leaves)]
        numbers = [n for block in joined for n in block[0]] + [number]
        blocks = [*apart, (numbers, leaves.union(*(block[1] for block in joined)))]
    return [sorted(numbers) for numbers, _ in blocks]


def _meet(one: set[str], other: set[str]) -> bool:
    """Whether a leaf of one is, or lies below, a leaf of the other."""
    return any(a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.") for a in one for b in other)
