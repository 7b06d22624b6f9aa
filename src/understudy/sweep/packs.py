"""Which stages share a job, and the order in which the jobs are submitted; pure.

A GPU stage has a job of its own, and so has a call to a service that a GPU waits for. Stages of
seconds are packed: what a GPU waits for goes into the job before it, and what nobody waits for
(baseline, evaluation, gate) into at most `PACKS` jobs of a kind, each after the GPU stages that
it reads. An endpoint answers one stage at a time, so its jobs stand in a lane: first what a GPU
waits for, one after the other; then the packs, of which a few may wait for their turn in a job.
"""

from collections import defaultdict
from collections.abc import Container, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from understudy.sweep.arrays import Pending, Unit, reduced

PACKS = 32
_WINDOW = 4  # packs of a lane that may hold a job at a time
_FIRST = -1  # the wave of what no GPU stands before


class _Graph(NamedTuple):
    """What is known of each stage from what stands before and behind it; seconds are guesses."""

    needs: dict[Path, list[Path]]  # without what is needed indirectly
    users: dict[Path, list[Path]]
    awaited: set[Path]  # by a GPU
    start: dict[Path, float]  # the earliest, in seconds
    tail: dict[Path, float]  # seconds from its start to the last end that waits for it


def pack(cells: Sequence[Pending], queued: Container[Path]) -> list[Unit]:
    """Return the jobs of all cells that are not queued yet, in the order to submit them.

    `cells` stand after what they need. Waves of GPU stages that can start early come first, with
    all that reads them, so that a queue that holds only a part of a sweep holds whole cells; in a
    wave the critical path is first.
    """
    graph = _look(cells)
    size = max(1, ceil(sum(_is_last_gpu(cell, graph) for cell in cells) / PACKS))
    waves = _waves(cells, graph, size)
    owner: dict[Path, tuple[object, ...]] = {}
    members = defaultdict[tuple[object, ...], list[Pending]](list)
    order: dict[tuple[object, ...], tuple[float, ...]] = {}
    depth: dict[Path, int] = {}
    for cell in cells:
        path, ask = cell.path, cell.ask
        depth[path] = 1 + max((depth[up] for up in graph.needs[path]), default=0)
        if path in queued:
            continue
        key: tuple[object, ...] = (path,)
        is_leaf = ask.room != "gpu" and path not in graph.awaited
        ups = graph.needs[path]
        if is_leaf:
            key = waves[path], depth[path], *ask
        elif ask.room == "cpu" and len(ups) == 1 and (joined := owner.get(ups[0])) is not None:
            key = joined if members[joined][0].ask.room != "gpu" else key
        owner[path] = key
        members[key].append(cell)
        place = (waves[path], is_leaf, depth[path], -graph.tail[path])
        order[key] = min(place, order.get(key, place))
    units, first = list[Unit](), {key: found[0].path for key, found in members.items()}
    lanes = defaultdict[str, tuple[list[Path], list[Path]]](lambda: ([], []))
    for key in sorted(members, key=order.__getitem__):
        stages = tuple(cell.path for cell in members[key])
        ask, is_leaf = members[key][0].ask, bool(order[key][1])
        needs = {
            first[owner[up]] if up in owner else up
            for cell in members[key]
            for up in cell.needs
            if owner.get(up) != key
        }
        after = set[Path]()
        if ask.lane is not None:
            awaited, leaves = lanes[ask.lane]
            after.update(awaited[-1:])
            if is_leaf and size > 1:
                after.update(leaves[-_WINDOW:][:1] if len(leaves) >= _WINDOW else [])
            (leaves if is_leaf else awaited).append(first[key])
        tail = max(graph.tail[path] for path in stages)
        units.append(Unit(stages, ask, tuple(sorted(needs)), tuple(sorted(after - needs)), tail))
    return units


def _look(cells: Sequence[Pending]) -> _Graph:
    needs = reduced([Unit((cell.path,), cell.ask, cell.needs) for cell in cells])
    known = {cell.path: cell for cell in cells}
    users = defaultdict[Path, list[Path]](list)
    start, tail, awaited = dict[Path, float](), dict[Path, float](), set[Path]()
    for cell in cells:
        ups = needs[cell.path]
        start[cell.path] = max((start[up] + known[up].seconds for up in ups), default=0.0)
        for up in ups:
            users[up].append(cell.path)
    for cell in reversed(cells):
        below = users[cell.path]
        tail[cell.path] = cell.seconds + max((tail[user] for user in below), default=0.0)
        if any(known[user].ask.room == "gpu" or user in awaited for user in below):
            awaited.add(cell.path)
    return _Graph(needs, users, awaited, start, tail)


def _is_last_gpu(cell: Pending, graph: _Graph) -> bool:
    return cell.ask.room == "gpu" and cell.path not in graph.awaited


def _waves(cells: Sequence[Pending], graph: _Graph, size: int) -> dict[Path, int]:
    """The wave of each stage, never before that of a stage which it needs."""
    last = [cell.path for cell in cells if _is_last_gpu(cell, graph)]
    last.sort(key=lambda path: (graph.start[path], -graph.tail[path]))
    waves = {path: number // size for number, path in enumerate(last)}
    behind_gpu = set[Path]()
    for cell in cells:
        ups = graph.needs[cell.path]
        if cell.ask.room == "gpu" or not behind_gpu.isdisjoint(ups):
            behind_gpu.add(cell.path)
    lanes = defaultdict[str | None, int](lambda: _FIRST)
    for cell in reversed(cells):
        path = cell.path
        if path in graph.awaited:
            users = (waves[user] for user in graph.users[path] if user in waves)
            waves[path] = min(users) if path in behind_gpu else _FIRST
            if cell.ask.lane is not None:
                lanes[cell.ask.lane] = max(lanes[cell.ask.lane], waves[path])
    for cell in cells:
        if cell.path not in waves:
            above = (waves[up] for up in graph.needs[cell.path])
            waves[cell.path] = max(lanes[cell.ask.lane], *above, _FIRST)
    return waves
