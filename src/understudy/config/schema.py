"""Sentences about a schema of nested dataclasses: its leaves, near misses, a wrong value."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError


def leaves(kind: Any) -> Iterator[str]:
    """Yield the dotted names of all leaves of a dataclass; a dictionary's keys stand as `*`."""
    return (name for name, _ in hints(kind))


def hints(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves, each with its type."""
    types_of = typing.get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        hint, name = types_of[item.name], f"{prefix}{item.name}"
        is_dict = typing.get_origin(hint) is dict
        if inner := _dataclasses_in(hint):
            below = f"{name}.*." if is_dict else f"{name}."
            yield from {leaf: kind for one in inner for leaf, kind in hints(one, below)}.items()
            continue
        yield name, hint
        if is_dict:
            yield f"{name}.*", typing.get_args(hint)[1]


def _dataclasses_in(hint: Any) -> list[Any]:
    """The dataclasses inside `X | None`, `dict[str, X]` or a union of several."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    if typing.get_origin(hint) is typing.Annotated:
        return _dataclasses_in(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (dict, types.UnionType, typing.Union):
        return [one for inner in typing.get_args(hint) for one in _dataclasses_in(inner)]
    return []


def suggest(word: str, choices: list[str]) -> str:
    """Return a did-you-mean clause, or the choices when they are few, or nothing.

    Of a dotted name only the last part is compared, with its siblings: what they share is no sign.
    """
    group = word[: word.rfind(".") + 1]
    siblings = [one for one in choices if one.startswith(group)]
    names = {one.removeprefix(group): one for one in siblings or choices}
    last = word.removeprefix(group) if siblings else word
    if near := difflib.get_close_matches(last, names, n=1):
        return f"; did you mean {names[near[0]]}?"
    return f"; choose from {', '.join(sorted(names.values()))}" if 0 < len(names) <= 40 else ""


def sentence(error: ValidationError, values: dict[str, Any], known: list[str]) -> str:
    """Return the first thing wrong with `values`: the value, its place, and what would be valid."""
    first = error.errors()[0]
    names = _names_in(values) | {part for leaf in known for part in leaf.split(".")}
    # pydantic mixes the branches of a union into the place; only real names and indices count.
    given = list(first["loc"])
    if given[:1] == ["graders"]:  # whose kind it puts behind the name
        del given[2:3]
    loc = [str(part) for part in given if isinstance(part, int) or part in names]
    place = ".".join(loc) or "the config"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        parent = place.rpartition(".")[0]
        siblings = [leaf for leaf in known if leaf.startswith(f"{parent}." if parent else "")]
        return f"{place} is not a config key{suggest(place, siblings)}"
    if first["type"] in ("missing", "missing_argument"):
        return f"{place} is not set: give it on the command line ({place}=…) or in conf/"
    wanted = first["msg"].partition(", unable to parse")[0].replace("Input should be", "it must be")
    return f"{place}={first['input']} is not valid: {wanted}"


def _names_in(values: Any) -> set[str]:
    if not isinstance(values, dict):
        return set()
    return set(map(str, values)) | {name for v in values.values() for name in _names_in(v)}
