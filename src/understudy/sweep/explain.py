"""Why a stage is not one that is finished already: what differs from the nearest of its kind."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from understudy.pipeline.stages import Stage
from understudy.store.artifacts import StageDir

_ABSENT = "absent"


class Node(NamedTuple):
    """What a fingerprint was made of, and the directory of each upstream stage by role."""

    document: dict[str, Any]
    inputs: dict[str, str]


class Explanation(NamedTuple):
    """A stage beside the finished one that differs in the fewest places."""

    stage: str
    nearest: str | None  # None: no other of its kind is finished
    changes: tuple[str, ...]  # from the nearest to this


class Explainer:
    """Compares the hashed documents of stages below one root, and of stages that are planned."""

    def __init__(self, root: Path, planned: Mapping[str, Stage]) -> None:
        self._root = root
        self._planned = planned
        self._node = cache(self._read)
        self._changes = cache(self._compare)

    def explain(self, stage: str) -> Explanation:
        """Compare the stage of this directory below the root, e.g. `finetune/0123456789abcdef`."""
        kind = stage.partition("/")[0]
        done = (f"{kind}/{mark.parent.name}" for mark in (self._root / kind).glob("*/DONE"))
        compared = {other: self._changes(stage, other) for other in sorted(done) if other != stage}
        if not compared:
            return Explanation(stage, None, ())
        nearest = min(compared, key=lambda other: len(compared[other]))
        return Explanation(stage, nearest, compared[nearest])

    def _compare(self, stage: str, other: str) -> tuple[str, ...]:
        """The changes from `other` to `stage`; of an upstream stage, the changes there."""
        if stage == other:
            return ()
        new, old = self._node(stage), self._node(other)
        if new is None or old is None:
            return (f"another {stage.partition('/')[0]} ({other} → {stage})",)
        found = dict.fromkeys(_differences(new.document, old.document))
        for role in sorted(new.inputs.keys() | old.inputs.keys()):
            if role not in old.inputs:
                found[f"input {role}: {_ABSENT} → {new.inputs[role]}"] = None
            elif role not in new.inputs:
                found[f"input {role}: {old.inputs[role]} → {_ABSENT}"] = None
            else:
                found |= dict.fromkeys(self._changes(new.inputs[role], old.inputs[role]))
        return tuple(found)

    def _read(self, stage: str) -> Node | None:
        if (planned := self._planned.get(stage)) is not None:
            inputs = {role: upstream.path for role, upstream in planned.inputs.items()}
            return Node(planned.document, inputs)
        directory = StageDir(self._root / stage)
        try:
            document = directory.read("config.json")["hashed"]
            return Node(document, directory.read("inputs.json")["inputs"])
        except FileNotFoundError:
            return None


def _differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    """Config leaves by their name; other parts of the document by theirs."""
    stage = new["stage"]
    for part in ("version", "schema"):
        if new[part] != old[part]:
            yield f"{stage} {part}: {old[part]} → {new[part]}"
    for part in ("config", "params", "files"):
        for key in sorted(new[part].keys() | old[part].keys()):
            after, before = new[part].get(key, _ABSENT), old[part].get(key, _ABSENT)
            if after == before:
                continue
            if part == "files":
                yield f"{stage}: the contents of its {key} changed"
            else:
                name = key if part == "config" else f"{stage} {key}"
                yield f"{name}: {before} → {after}"
