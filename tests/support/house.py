"""The house in numbers: rooms, lines, circles between files, and the spine of `understudy run`.

    make house            (PYTHONPATH=tests python -m support.house)

Reads the code as text. `tests/test_house.py` holds the rules that must never break; budgets are
printed only, to notice growth.
"""

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "understudy"
LOOSE = {"__init__", "__main__", "errors", "records", "locations"}

# Top down; a room imports rooms of the levels below its own, never one beside it.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("report",),
    ("pipeline",),
    ("evaluation", "synthesis", "training", "inference"),
    ("models", "services", "data"),
    ("prompts",),
    ("playground",),
    ("store",),
    ("config",),
    ("records",),
    ("errors", "locations", ""),
)
ANNEXES = ("sweep", "plan", "collect", "rehearsal", "export", "serve", "gateway", "routing",
           "judges", "labelling", "watch", "forget")  # fmt: skip
# What one annex may read of another: the gateway routes with the artifact that `route` wrote.
BETWEEN_ANNEXES = {("gateway", "routing")}
# Modules of the spine's folders that only annexes use: what they know of a maker's wire.
ANNEX_PARTS = (
    *("log", "dialogue", "translation", "rehearsal", "chat", "inbound", "errors"),
    *("responses", "completions"),
)
# Where the path of `understudy run` begins: composing, the rounds, the worker and its stages.
SPINE = ("config.compose", "pipeline.run", "pipeline.worker")


class Import(NamedTuple):
    """One module read by another; both dotted, without the package's name."""

    reader: str
    read: str


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """Dotted name below the package → file; a folder's `__init__` has the folder's name."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def libraries(path: Path) -> set[str]:
    """The top-level names of what a file imports."""
    return {name.partition(".")[0] for name in _imported(path, "")}


def public_classes(path: Path) -> list[str]:
    """The classes that a file defines at its top, without private ones."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n.name for n in tree.body if isinstance(n, ast.ClassDef) and n.name[0] != "_"]


def imports(known: Mapping[str, Path], package: str) -> set[Import]:
    """Every import of a module of `known` by another, also inside functions and for types."""
    return {
        Import(reader, read)
        for reader, path in known.items()
        for name in _imported(path, f"{package}.{reader}".rstrip("."))
        if (read := _module(name, known, package)) is not None and read != reader
    }


@cache
def _imported(path: Path, module: str) -> tuple[str, ...]:
    """Dotted names of what is imported, the imported name included."""
    return tuple(_imports_of(ast.parse(path.read_text(encoding="utf-8")), path, module))


def _imports_of(tree: ast.Module, path: Path, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative, as in analysis/
                parents = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
                above = parents[: len(parents) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _module(name: str, known: Mapping[str, Path], package: str) -> str | None:
    if name != package and not name.startswith(f"{package}."):
        return None
    below = name.removeprefix(package).lstrip(".")
    while below not in known:
        below = below.rpartition(".")[0]
    return below


def room(module: str) -> str:
    """The room that a module is in."""
    return module.partition(".")[0]


def is_annex(module: str) -> bool:
    """Whether the spine works without it."""
    return room(module) in ANNEXES or (
        module.startswith("services.providers.")
        and module.rpartition(".")[2].partition("_")[0] in ANNEX_PARTS
    )


def upward(found: Iterable[Import]) -> list[Import]:
    """Imports that do not point down, by the levels above."""
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    wrong = []
    for one in sorted(found):
        here, there = room(one.reader), room(one.read)
        if here == there and not (is_annex(one.read) and not is_annex(one.reader)):
            continue
        if here in ("cli", "__main__"):  # the table of verbs knows every room
            continue
        if is_annex(one.reader):
            allowed = not is_annex(one.read) and level.get(there, 0) > 0
            allowed |= (here, there) in BETWEEN_ANNEXES or there == "services"
        else:
            allowed = not is_annex(one.read) and level[there] > level[here]
        if not allowed:
            wrong.append(one)
    return wrong


def circles(found: Collection[Import]) -> list[list[str]]:
    """Groups of files of which each imports, directly or not, every other (Tarjan 1972)."""
    below: dict[str, list[str]] = {}
    for one in sorted(found):
        below.setdefault(one.reader, []).append(one.read)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in below.get(name, []):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in sorted(below):
        if name not in index:
            visit(name)
    return groups


def reached(start: Iterable[str], found: Iterable[Import]) -> set[str]:
    """The modules that importing `start` reads, directly or not."""
    below: dict[str, set[str]] = {}
    for one in found:
        below.setdefault(one.reader, set()).add(one.read)
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            waiting += below.get(name, ())
    return seen


def lines(paths: Iterable[Path]) -> int:
    """How many lines files have together."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def stage_modules() -> list[str]:
    """The modules that stages run in, below the package."""
    sys.path.insert(0, str(ROOT / "src"))
    from understudy.pipeline.stages import SPECS

    return sorted(
        {spec.run.partition(":")[0].removeprefix("understudy.") for spec in SPECS.values()}
    )


def main() -> int:
    """Print the numbers; exit code 1 where a rule is broken."""
    known = modules()
    found = imports(known, "understudy")
    analysis = modules(ROOT / "analysis")
    drawn = imports(analysis, "analysis")
    for name in sorted({room(module) for module in known}):
        mine = [path for module, path in known.items() if room(module) == name]
        kind = "annex" if name in ANNEXES else ""
        print(f"{name or '(top)':<12} {len(mine):>4} files {lines(mine):>7,} lines  {kind}")
    providers = [name for name in known if name.startswith("services.providers.")]
    begins = [*SPINE, *stage_modules(), *(name for name in providers if not is_annex(name))]
    spine = {name for name in reached(begins, found) if not is_annex(name)}
    tests = list((ROOT / "tests").rglob("*.py"))
    for title, paths in (
        ("src", list(known.values())),
        ("analysis", list(analysis.values())),
        ("tests", tests),
        ("spine", [known[name] for name in spine]),
    ):
        print(f"{title:<12} {len(paths):>4} files {lines(paths):>7,} lines")
    broken = [f"up: {one.reader} imports {one.read}" for one in upward(found)]
    for group in circles(found) + circles(drawn):
        broken.append(f"circle: {' · '.join(group)}")
    loose = sorted({name for name in known if "." not in name and known[name].parent == SOURCE})
    broken += [f"loose: {name}" for name in loose if name and name not in LOOSE]
    print("\n".join(broken) or "no import upward, no circle, nothing loose")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
