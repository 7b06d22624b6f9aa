"""What the chosen runs differ in beside what every table names: a column each, and a series.

A result depends on the leaves that its stages have read (`hashed` in their config.json), on nothing
else. Of those that differ, the ones that task, model and teacher tell anyway (of a judge: its name)
are no news. Of the others as many are named as tell the rest, and a group that was typed, as in
`trainer=lora`, before its leaves. The seed is none of them: runs that differ in nothing else are
replicates.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from understudy.config import Config
from understudy.config.compose import flat
from understudy.errors import BadInput
from understudy.pipeline.record import RunRecord
from understudy.store.artifacts import StageDir, fingerprint

from . import labels
from .evaluations import Evaluation, Leaves, Setting, Setup, System, judge_name

_SEED = "seed"
_DEFAULT = "default"  # of a leaf that a stage did not have when it was made, or nobody typed
_LONGEST = 24  # characters of a value
Column = list[str | None]  # a text per item; None where the leaf says nothing of it


class _Item(NamedTuple):
    """Something made of stages, and what tables say of it anyway."""

    leaves: Mapping[str, Leaves]  # by stage
    typed: Mapping[str, str]
    told: Hashable


def leaves_of(stage: StageDir) -> Leaves:
    """The leaves that a stage has read, the digests of its files, and its version."""
    if not (stage.path / "config.json").is_file():
        return {}
    hashed: dict[str, Any] = stage.read("config.json").get("hashed", {})
    kind = stage.path.parent.name
    judge = f"judges.{hashed.get('params', {}).get('judge')}."
    found = {
        f"judge.{leaf.removeprefix(judge)}" if leaf.startswith(judge) else leaf: _text(value)
        for leaf, value in hashed.get("config", {}).items()
    }
    files = hashed.get("files", {}).items()
    found |= {f"{kind}.{what} (file)": digest[:8] for what, digest in files}
    return found | {f"{kind}.version": str(hashed.get("version", 1))}


def upstream(stage: StageDir, root: Any) -> dict[str, Leaves]:
    """The leaves of a stage and of all that it was made from, by kind of stage."""
    found: dict[str, Leaves] = {}
    waiting = [stage]
    while waiting:
        one = waiting.pop()
        kind = one.path.parent.name
        if kind not in found:
            found[kind] = leaves_of(one)
            if (one.path / "inputs.json").is_file():
                paths = one.read("inputs.json")["inputs"].values()
                waiting += [StageDir(root / path) for path in paths]
    return found


def typed(run: RunRecord) -> dict[str, str]:
    """The overrides that a run was asked for with."""
    pairs = (word.partition("=") for word in shlex.split(run.command))
    return {key.lstrip("+"): value for key, sign, value in pairs if sign}


def named(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with what tells their systems and judges apart."""
    systems = list({id(one.system): one.system for one in evaluations}.values())
    known: dict[int, System] = {}
    for role in ("baseline", "local"):
        mine = [system for system in systems if system.role == role]
        items = [_Item(s.leaves, s.typed, (s.task, s.model, s.teacher)) for s in mine]
        setups = _differing(items)
        places = {setup: place for place, setup in reversed(list(enumerate(setups)))}
        for system, setup in zip(mine, setups, strict=True):
            known[id(system)] = replace(system, setup=setup, place=places[setup])
    bare = [replace(one, setup=()) for one in evaluations]
    asked = _differing(
        [_Item({"evaluation": o.leaves}, {}, (o.system.task, judge_name(o))) for o in bare]
    )
    return [
        replace(one, system=known[id(one.system)], setup=setup)
        for one, setup in zip(evaluations, asked, strict=True)
    ]


def _differing(items: Sequence[_Item]) -> list[Setup]:
    """What tells each item from the others, by as few names as there can be."""
    columns = _columns(items)
    told: list[Hashable] = [item.told for item in items]
    still = {name: column for name, column in columns.items() if not _is_told(column, told)}
    chosen: dict[str, Column] = {}
    for name, column in [*_groups(items, still).items(), *sorted(still.items(), key=_widest)]:
        if not _is_told(column, told):
            chosen[name] = column
            told = list(zip(told, column, strict=True))
    return [
        tuple(Setting(name, text) for name, c in chosen.items() if (text := c[n]) is not None)
        for n in range(len(items))
    ]


def _columns(items: Sequence[_Item]) -> dict[str, Column]:
    """Every leaf but the seed. A stage without it, where another of its kind has it: default."""
    known: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        for kind, leaves in item.leaves.items():
            known[kind] |= leaves.keys()
    columns: dict[str, Column] = {}
    for number, item in enumerate(items):
        for kind, leaves in item.leaves.items():
            for name in sorted(known[kind] - {_SEED}):
                column = columns.setdefault(name, [None] * len(items))
                column[number] = leaves.get(name, column[number] or _DEFAULT)
    return columns


def _groups(items: Sequence[_Item], still: Mapping[str, Column]) -> dict[str, Column]:
    """What was typed of groups whose leaves differ."""
    found: dict[str, Column] = {}
    for key in dict.fromkeys(key for item in items for key in item.typed):
        below = [column for name, column in still.items() if name.startswith(f"{key}.")]
        if below:
            found[key] = [
                item.typed.get(key, _DEFAULT) if any(c[n] is not None for c in below) else None
                for n, item in enumerate(items)
            ]
    return found


def _widest(named: tuple[str, Column]) -> tuple[int, int, str]:
    name, column = named
    return -len(set(column)), name.count("."), name


def _is_told(column: Column, told: Sequence[Hashable]) -> bool:
    """Whether what is told already leaves one value of the column."""
    seen: dict[Hashable, str] = {}
    pairs = zip(told, column, strict=True)
    return all(text is None or seen.setdefault(key, text) == text for key, text in pairs)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 8]}… {fingerprint(value)[:6]}"  # long values may begin alike


def config_differences(runs: Sequence[RunRecord]) -> list[str]:
    """Return the leaves that can change a result and that some runs have set differently."""
    machine = {one.name for one in fields(Config) if one.metadata.get("machine")}
    known = [flat({k: v for k, v in run.config.items() if k not in machine}) for run in runs]
    names = dict.fromkeys(name for leaves in known for name in leaves)
    return [name for name in names if any(ls.get(name) != known[0].get(name) for ls in known)]


def words(setup: Setup) -> str:
    """Return a setup as a legend shows it: groups by name, leaves without theirs."""
    return ", ".join(f"{one.name.rpartition('.')[2]} {one.value}" for one in setup)


def fits(setup: Setup, other: Setup) -> bool:
    """Whether no setting is in both with another value, as of a size that needs no teacher."""
    there = dict(other)
    return all(there.get(one.name, one.value) == one.value for one in setup)


def sentence(setups: Sequence[Setup], what: str, most: int) -> str:
    """The refusal of more series than a figure can show, with what differs and how to choose."""
    values: dict[str, str] = {}
    counts: defaultdict[str, set[str]] = defaultdict(set)
    for setup in setups:
        for one in setup:
            values.setdefault(one.name, one.value)
            counts[one.name].add(one.value)
    names = [name for name in values if len(counts[name]) > 1]
    first = names[0] if names else "model"
    value = values.get(first, "NAME")
    return (
        f"{len(setups)} {what} are more than the {most} that can be told apart: these differ: "
        f"{', '.join(names) or 'task, model, teacher'}; choose with --only {first}={value}"
    )


def choose(evaluations: Sequence[Evaluation], only: Sequence[str]) -> list[Evaluation]:
    """The evaluations that every KEY=VALUE[,VALUE] names; what has no such key stays.

    Raises BadInput where a key or value is none of theirs.
    """
    kept = list(evaluations)
    for term in only:
        key, sign, text = term.partition("=")
        if not sign or not text:
            raise BadInput(f"--only {term} is not of the form KEY=VALUE")
        wanted = [labels.canonical(value.strip()) for value in text.split(",")]
        found = [_said(one).get(key) for one in evaluations]
        there = list(dict.fromkeys(value for value in found if value is not None))
        if not there:
            keys = dict.fromkeys(name for one in evaluations for name in _said(one))
            raise BadInput(f"{key} is nothing that these differ in; choose from {', '.join(keys)}")
        for value in wanted:
            if value not in there:
                raise BadInput(f"none of these has {key}={value}; there are {', '.join(there)}")
        kept = [one for one in kept if _said(one).get(key, wanted[0]) in wanted]
    return kept


def _said(one: Evaluation) -> dict[str, str]:
    """What an evaluation can be chosen by."""
    system = one.system
    found: dict[str, str | None] = {
        **{"task": system.task, "model": system.model, "teacher": system.teacher},
        **{"judge": judge_name(one), "run": system.run},
        "seed": None if system.seed is None else str(system.seed),
        "data_size": None if system.data_size != system.data_size else f"{system.data_size:g}",
    }
    if system.role == "baseline":  # a service is what models are compared with
        found["model"] = None
    found |= {setting.name: setting.value for setting in (*system.setup, *one.setup)}
    return {name: text for name, text in found.items() if text is not None}
