"""Which unfinished stages become which `sbatch` arrays, and what each waits for; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from pathlib import Path
from typing import NamedTuple

from understudy.sweep.slurm import Array
from understudy.sweep.submission_cells import Cell


class Spot(NamedTuple):
    """Where a stage runs."""

    array: str
    at: int  # the index


def without(cells: Iterable[Cell], lost: AbstractSet[Path]) -> list[Cell]:
    """The cells that need none of the lost ones; cells stand after what they need."""
    gone = set(lost)
    kept = []
    for cell in cells:
        if cell.path in gone or not gone.isdisjoint(cell.needs):
            gone.add(cell.path)
        else:
            kept.append(cell)
    return kept


def arrange(cells: Sequence[Cell], queued: Mapping[Path, str], limit: int) -> list[Array]:
    """The arrays of all cells that are not queued yet, in the order to submit them.

    The n-th is called `${jobN}`, from 1. A cell's index is that of the upstream stage with the
    fewest users, so that `aftercorr` makes it wait for exactly its own; any other upstream stage
    is waited for by `afterok`, and cells that wait for different ones are in different arrays.
    Where one upstream stage has more users than its array has stages, its users share an array
    that waits for it.
    """
    needs = _reduced(cells)
    users = Counter(path for paths in needs.values() for path in paths)
    spots = {path: Spot(array, int(index)) for path, (array, index) in _split(queued).items()}
    numbers = count(1)
    arrays: list[Array] = []
    for group in _groups([cell for cell in cells if cell.path not in queued], needs):
        for key, members in _by_dependency(group, needs, users, spots).items():
            made: list[Array] = []
            names: list[str] = []
            taken = Counter[int]()
            for number, (cell, given) in enumerate(members):
                index = number % limit + 1 if given is None else given
                if (place := taken[index]) == len(made):
                    parts = (cell.stage, cell.room, cell.flags, cell.service)
                    made.append(Array(*parts, *key))
                    names.append(f"${{job{next(numbers)}}}")
                taken[index] += 1
                made[place].tasks[index] = cell.path
                spots[cell.path] = Spot(names[place], index)
            arrays += made
    return arrays


def sinks(cells: Iterable[Cell]) -> list[Path]:
    """The cells that no other waits for."""
    cells = list(cells)
    needed = {path for cell in cells for path in cell.needs}
    return [cell.path for cell in cells if cell.path not in needed]


def _split(queued: Mapping[Path, str]) -> dict[Path, list[str]]:
    return {path: job.split("_") for path, job in queued.items()}


def _reduced(cells: Sequence[Cell]) -> dict[Path, list[Path]]:
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


def _groups(cells: list[Cell], needs: Mapping[Path, list[Path]]) -> list[list[Cell]]:
    """Cells that may share an array, upstream ones first."""
    depth: dict[Path, int] = {}
    groups = defaultdict[tuple[int, str, tuple[str, ...], str | None], list[Cell]](list)
    for cell in cells:
        depth[cell.path] = 1 + max((depth.get(path, 0) for path in needs[cell.path]), default=0)
        groups[depth[cell.path], cell.stage, cell.flags, cell.service].append(cell)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0][0])]


_Key = tuple[tuple[str, ...], tuple[str, ...]]  # aftercorr, afterok


def _by_dependency(
    group: list[Cell],
    needs: Mapping[Path, list[Path]],
    users: Mapping[Path, int],
    spots: Mapping[Path, Spot],
) -> dict[_Key, list[tuple[Cell, int | None]]]:
    """The cells of a group by what they wait for, each with its index where that is given."""
    own: dict[Path, Spot] = {}
    for cell in group:
        if upstream := needs[cell.path]:
            own[cell.path] = spots[min(reversed(upstream), key=lambda path: users[path])]
    shares = defaultdict[str, Counter[int]](Counter)
    for spot in own.values():
        shares[spot.array][spot.at] += 1
    fanned = {array for array, share in shares.items() if max(share.values()) > len(share)}
    found = defaultdict[_Key, list[tuple[Cell, int | None]]](list)
    for cell in group:
        mine = own.get(cell.path)
        index = None if mine is None or mine.array in fanned else mine.at
        upstream_spots = [spots[path] for path in needs[cell.path]]
        after = sorted({array for array, at in upstream_spots if at == index})
        others = sorted({f"{array}_{at}" for array, at in upstream_spots if at != index})
        found[tuple(after), tuple(others)].append((cell, index))
    return found
