"""Which jobs become which `sbatch` arrays, and what each waits for; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

from understudy.config.cluster import Room


class Ask(NamedTuple):
    """What a stage is, and asks Slurm for; the jobs of an array ask for the same."""

    stage: str
    room: Room
    flags: tuple[str, ...]  # what its job asks for
    lane: str | None  # what it has to itself while it runs: an endpoint, or a purse with a cap


class Pending(NamedTuple):
    """One stage that is not done, with the upstream stages that are not done either."""

    path: Path
    ask: Ask
    needs: tuple[Path, ...]
    seconds: float = 1.0  # a guess, for the order alone


class Unit(NamedTuple):
    """One job: stages to do one after the other. A unit is called by its first stage."""

    stages: tuple[Path, ...]
    ask: Ask
    needs: tuple[Path, ...]  # units, and stages that are queued: what its stages read
    after: tuple[Path, ...] = ()  # units that come before it, whatever becomes of them
    tail: float = 0.0  # seconds, a guess: until all is over that waits for it

    @property
    def path(self) -> Path:
        """Its first stage."""
        return self.stages[0]


@dataclass
class Array:
    """Jobs to submit as one array; they are ids, or `${jobN}` before there is one."""

    ask: Ask
    aftercorr: tuple[str, ...]  # arrays: index i waits for their index i
    afterok: tuple[str, ...]  # jobs that every index waits for
    afterany: tuple[str, ...] = ()  # the same, whatever becomes of them
    tasks: dict[int, tuple[Path, ...]] = field(default_factory=dict)
    tail: float = 0.0  # the longest of its units

    @property
    def after(self) -> str:
        """The dependency, in Slurm's words."""
        kinds = ("aftercorr", "afterok", "afterany")
        parts = ((kind, getattr(self, kind)) for kind in kinds)
        return ",".join(f"{kind}:{':'.join(jobs)}" for kind, jobs in parts if jobs)


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


def arrange(
    units: Sequence[Unit],
    queued: Mapping[Path, str],
    limit: int,
    packed: AbstractSet[Path] = frozenset(),
) -> list[Array]:
    """Return the arrays of the units, in the order to submit them; the n-th is called `${jobN}`.

    `queued` has the jobs of stages that wait already, `packed` those of them that share one. A
    unit's index is that of the upstream unit with the fewest users, so that `aftercorr` makes it
    wait for exactly its own; any other upstream unit is waited for by `afterok`, and units that
    wait for different ones are in different arrays. Where one upstream unit has more users than
    its array has units, its users share an array that waits for it.

    A pack looks at the inputs of each of its stages when it starts, and one that fails ends no
    other: a pack waits by `afterany`, and so does whatever waits for a pack.
    """
    needs = reduced(units)
    users = Counter(path for paths in needs.values() for path in paths)
    packs = {unit.path for unit in units if len(unit.stages) > 1} | packed
    spots = {}
    for path, job in queued.items():
        array, _, at = job.partition("_")
        spots[path] = Spot(array, int(at))
    numbers = count(1)
    arrays: list[Array] = []
    depth: dict[Path, int] = {}
    groups = defaultdict[tuple[int, Ask], list[Unit]](list)  # that may share an array
    for unit in units:
        ups = (*needs[unit.path], *unit.after)
        depth[unit.path] = 1 + max((depth.get(path, 0) for path in ups), default=0)
        groups[depth[unit.path], unit.ask].append(unit)
    for (_, ask), group in sorted(groups.items(), key=lambda item: item[0][0]):
        for key, members in _by_dependency(group, needs, users, spots, packs).items():
            made: list[Array] = []
            names: list[str] = []
            taken = Counter[int]()
            for number, (unit, given) in enumerate(members):
                index = number % limit + 1 if given is None else given
                if (place := taken[index]) == len(made):
                    made.append(Array(ask, *key))
                    names.append(f"${{job{next(numbers)}}}")
                taken[index] += 1
                made[place].tasks[index] = unit.stages
                made[place].tail = max(made[place].tail, unit.tail)
                spots[unit.path] = Spot(names[place], index)
            arrays += made
    return arrays


def sinks(units: Iterable[Unit]) -> list[Path]:
    """Return the units that no other waits for."""
    units = list(units)
    needed = {path for unit in units for path in (*unit.needs, *unit.after)}
    return [unit.path for unit in units if unit.path not in needed]


def reduced(units: Sequence[Unit]) -> dict[Path, list[Path]]:
    """Return what each unit must wait for, without what it waits for indirectly anyway."""
    bit = {unit.path: 1 << number for number, unit in enumerate(units)}
    above: dict[Path, int] = {}
    found = {}
    for unit in units:
        indirect = direct = 0
        for path in unit.needs:
            indirect |= above.get(path, 0)
            direct |= bit.get(path, 0)
        found[unit.path] = [path for path in unit.needs if not bit.get(path, 0) & indirect]
        above[unit.path] = indirect | direct
    return found


_Key = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # aftercorr, afterok, afterany


def _by_dependency(
    group: list[Unit],
    needs: Mapping[Path, list[Path]],
    users: Mapping[Path, int],
    spots: Mapping[Path, Spot],
    packs: AbstractSet[Path],
) -> dict[_Key, list[tuple[Unit, int | None]]]:
    """The units of a group by what they wait for, each with its index where that is given.

    What has no spot has ended: nothing waits for it any more.
    """
    strict: dict[Path, list[Path]] = {}
    own: dict[Path, Spot] = {}
    for unit in group:
        is_pack = unit.path in packs
        ups = [path for path in needs[unit.path] if path in spots]
        strict[unit.path] = [path for path in ups if not is_pack and path not in packs]
        if mine := strict[unit.path]:
            own[unit.path] = spots[min(reversed(mine), key=lambda path: users[path])]
    shares = defaultdict[str, Counter[int]](Counter)
    for spot in own.values():
        shares[spot.array][spot.at] += 1
    fanned = {array for array, share in shares.items() if max(share.values()) > len(share)}
    found = defaultdict[_Key, list[tuple[Unit, int | None]]](list)
    for unit in group:
        mine_at = own.get(unit.path)
        index = None if mine_at is None or mine_at.array in fanned else mine_at.at
        strictly = [spots[path] for path in strict[unit.path]]
        loose = {*needs[unit.path], *unit.after} - {*strict[unit.path]}
        after = sorted({array for array, at in strictly if at == index})
        others = sorted({f"{array}_{at}" for array, at in strictly if at != index})
        ended = sorted(f"{s.array}_{s.at}" for s in map(spots.get, loose) if s is not None)
        found[tuple(after), tuple(others), tuple(ended)].append((unit, index))
    return found
