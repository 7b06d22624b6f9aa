"""Which unfinished stages become which `sbatch` arrays, and what each waits for; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

from understudy.config.cluster import Room


class Ask(NamedTuple):
    """What a stage is, and asks Slurm for; the stages of an array ask for the same."""

    stage: str
    room: Room
    flags: tuple[str, ...]  # what its job asks for
    service: str | None  # that it asks; such stages run one at a time


class Pending(NamedTuple):
    """One stage that is not done, with the upstream stages that are not done either."""

    path: Path
    ask: Ask
    needs: tuple[Path, ...]


@dataclass
class Array:
    """Stage directories to run as one array; jobs are ids, or `${jobN}` before there is one."""

    ask: Ask
    aftercorr: tuple[str, ...]  # arrays: index i waits for their index i
    afterok: tuple[str, ...]  # jobs that every index waits for
    tasks: dict[int, Path] = field(default_factory=dict)

    @property
    def after(self) -> str:
        """The dependency, in Slurm's words."""
        parts = [f"aftercorr:{':'.join(self.aftercorr)}"] if self.aftercorr else []
        parts += [f"afterok:{':'.join(self.afterok)}"] if self.afterok else []
        # A name of its own per service: a job waits for all earlier ones of the same name.
        return ",".join([*parts, *(["singleton"] if self.ask.service else [])])


class Spot(NamedTuple):
    """Where a stage runs."""

    array: str
    at: int  # the index


def without(cells: Iterable[Pending], lost: AbstractSet[Path]) -> list[Pending]:
    """Return the cells that need none of the lost ones; cells stand after what they need."""
    gone = set(lost)
    kept = []
    for cell in cells:
        if cell.path in gone or not gone.isdisjoint(cell.needs):
            gone.add(cell.path)
        else:
            kept.append(cell)
    return kept


def arrange(cells: Sequence[Pending], queued: Mapping[Path, str], limit: int) -> list[Array]:
    """Return the arrays of all cells that are not queued yet, in the order to submit them.

    The n-th is called `${jobN}`, from 1. A cell's index is that of the upstream stage with the
    fewest users, so that `aftercorr` makes it wait for exactly its own; any other upstream stage
    is waited for by `afterok`, and cells that wait for different ones are in different arrays.
    Where one upstream stage has more users than its array has stages, its users share an array
    that waits for it.
    """
    needs = _reduced(cells)
    users = Counter(path for paths in needs.values() for path in paths)
    spots = {}
    for path, job in queued.items():
        array, _, at = job.partition("_")
        spots[path] = Spot(array, int(at))
    numbers = count(1)
    arrays: list[Array] = []
    depth: dict[Path, int] = {}
    groups = defaultdict[tuple[int, Ask], list[Pending]](list)  # that may share an array
    for cell in cells:
        if cell.path not in queued:
            above = max((depth.get(path, 0) for path in needs[cell.path]), default=0)
            depth[cell.path] = above + 1
            groups[above, cell.ask].append(cell)
    for (_, ask), group in sorted(groups.items(), key=lambda item: item[0][0]):
        for key, members in _by_dependency(group, needs, users, spots).items():
            made: list[Array] = []
            names: list[str] = []
            taken = Counter[int]()
            for number, (cell, given) in enumerate(members):
                index = number % limit + 1 if given is None else given
                if (place := taken[index]) == len(made):
                    made.append(Array(ask, *key))
                    names.append(f"${{job{next(numbers)}}}")
                taken[index] += 1
                made[place].tasks[index] = cell.path
                spots[cell.path] = Spot(names[place], index)
            arrays += made
    return arrays


def sinks(cells: Iterable[Pending]) -> list[Path]:
    """Return the cells that no other waits for."""
    cells = list(cells)
    needed = {path for cell in cells for path in cell.needs}
    return [cell.path for cell in cells if cell.path not in needed]


def _reduced(cells: Sequence[Pending]) -> dict[Path, list[Path]]:
    """What each cell must wait for, without what it waits for indirectly anyway."""
    bit = {cell.path: 1 << number for number, cell in enumerate(cells)}
    above: dict[Path, int] = {}
    reduced = {}
    for cell in cells:
        indirect = direct = 0
        for path in cell.needs:
            indirect |= above[path]
            direct |= bit[path]
        reduced[cell.path] = [path for path in cell.needs if not bit[path] & indirect]
        above[cell.path] = indirect | direct
    return reduced


_Key = tuple[tuple[str, ...], tuple[str, ...]]  # aftercorr, afterok


def _by_dependency(
    group: list[Pending],
    needs: Mapping[Path, list[Path]],
    users: Mapping[Path, int],
    spots: Mapping[Path, Spot],
) -> dict[_Key, list[tuple[Pending, int | None]]]:
    """The cells of a group by what they wait for, each with its index where that is given."""
    own: dict[Path, Spot] = {}
    for cell in group:
        if upstream := needs[cell.path]:
            own[cell.path] = spots[min(reversed(upstream), key=lambda path: users[path])]
    shares = defaultdict[str, Counter[int]](Counter)
    for spot in own.values():
        shares[spot.array][spot.at] += 1
    fanned = {array for array, share in shares.items() if max(share.values()) > len(share)}
    found = defaultdict[_Key, list[tuple[Pending, int | None]]](list)
    for cell in group:
        mine = own.get(cell.path)
        index = None if mine is None or mine.array in fanned else mine.at
        upstream_spots = [spots[path] for path in needs[cell.path]]
        after = sorted({array for array, at in upstream_spots if at == index})
        others = sorted({f"{array}_{at}" for array, at in upstream_spots if at != index})
        found[tuple(after), tuple(others)].append((cell, index))
    return found
