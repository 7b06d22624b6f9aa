"""How short a sweep could be: its stages on so many cores, one at a time at the endpoint."""

import heapq
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple


class Done(NamedTuple):
    """A stage that has run, on one core."""

    start: float  # Unix time
    seconds: float
    needs: tuple[str, ...]
    asks: bool  # the endpoint, which answers one stage at a time


def tails(stages: Mapping[str, Done]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain behind it."""
    users = defaultdict[str, list[str]](list)
    for name, stage in stages.items():
        for up in stage.needs:
            users[up].append(name)
    found: dict[str, float] = {}

    def tail(name: str) -> float:
        if name not in found:
            behind = max((tail(user) for user in users[name]), default=0.0)
            found[name] = stages[name].seconds + behind
        return found[name]

    return {name: tail(name) for name in stages}


def lower_bound(stages: Mapping[str, Done], cores: int) -> float:
    """No schedule is shorter: the longest chain, the work by cores, the endpoint's work."""
    tail = tails(stages)
    asked = sum(stage.seconds for stage in stages.values() if stage.asks)
    work = sum(stage.seconds for stage in stages.values()) / cores
    return max(*tail.values(), work, asked)


def schedule(stages: Mapping[str, Done], cores: int) -> float:
    """The seconds of a schedule without any waste: of what is ready, the longest tail first."""
    tail = tails(stages)
    left, ended = dict(stages), set[str]()
    running: list[tuple[float, str]] = []
    now = 0.0
    while left or running:
        ready = [name for name, stage in left.items() if ended.issuperset(stage.needs)]
        for name in sorted(ready, key=lambda name: -tail[name]):
            is_taken = any(stages[other].asks for _, other in running)
            if len(running) < cores and not (stages[name].asks and is_taken):
                heapq.heappush(running, (now + left.pop(name).seconds, name))
        now, name = heapq.heappop(running)
        ended.add(name)
    return now
