"""The record of a run, `run/<name>/run.json`: its rounds, their stages, and what was decided.

Only `RunRecord` reads and writes the file. Paths of stages are relative to the root, which holds
`run/`; a rehearsal's root is `rehearsal/` below that of real runs. `decision.json` beside it is
what `understudy decide` wrote, read as `DecisionRecord`.
"""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from understudy.config.schema import suggest
from understudy.errors import BadInput
from understudy.store.artifacts import StageDir, lines, write_atomically

VERSION = 1  # of a record; one without a version has the same keys
T = TypeVar("T")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def load(kind: type[T], path: Path, what: str) -> T:
    """Read the record of `what`; raise BadInput when it is none, or a newer version wrote it."""
    try:
        values = from_json(path.read_bytes())  # a sweep's status reads thousands of records
        if (version := values.get("version", VERSION)) > VERSION:
            raise BadInput(
                f"{path} has version {version}, and this understudy reads up to {VERSION}: "
                "use the understudy that wrote it, or a newer one"
            )
        if isinstance(values.get("command"), list):
            values["command"] = shlex.join(values["command"])
        if kind not in _ADAPTERS:  # which take longer to make than to use
            _ADAPTERS[kind] = TypeAdapter(kind)
        found: T = _ADAPTERS[kind].validate_python({**values, "path": path})
        return found
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path} is no record of {what}: {place}: {first['msg']}") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise BadInput(f"{path} is no record of {what}: {error}") from None


def store(record: Any, is_flushed: bool = True) -> None:
    """Write a record, a dataclass with the `path` of its file."""
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    path: Path = values.pop("path")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lines({"version": VERSION, **values}), is_flushed)


@dataclass
class RoundRecord:
    """One round: its stages by role, and the word of its gate once that is done."""

    round: int
    data_size: int | None  # null where ready-made answers are judged
    stages: dict[str, str]
    decision: str | None = None


@dataclass
class HoldoutRecord:
    """The stages that judge the round that passed, and the service, on the holdout."""

    round: int
    stages: dict[str, str]


@dataclass
class RunDecision:
    """How a run ended."""

    passed: bool
    round: int | None  # the first that passed
    reason: str


@dataclass(kw_only=True)
class DecisionRecord:
    """What `understudy decide` said, and what it had looked at."""

    path: Path  # of decision.json, not in it
    decision: str  # MIGRATE is the only yes
    reason: str
    warnings: list[str]
    holdout: HoldoutRecord | None = None


@dataclass(kw_only=True)
class RunRecord:
    """What is known of a run so far."""

    path: Path  # of run.json, not in it
    name: str
    command: str
    created: str
    understudy: str  # the version that made it
    rehearsal: bool
    config: dict[str, Any]
    stages: dict[str, str]  # those before the rounds
    rounds: list[RoundRecord]
    holdout: HoldoutRecord | None = None
    decision: RunDecision | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a run.json; raise BadInput when it is none, or a newer version wrote it."""
        return load(cls, path, "a run")

    def write(self, is_flushed: bool = True) -> None:
        """Write run.json."""
        store(self, is_flushed)

    @property
    def root(self) -> Path:
        """What the paths of stages are relative to."""
        return self.path.parents[2]

    @property
    def decided(self) -> DecisionRecord | None:
        """What `understudy decide` wrote last; None where nobody has decided."""
        path = self.path.with_name("decision.json")
        return load(DecisionRecord, path, "a decision") if path.is_file() else None

    @property
    def is_ready_made(self) -> bool:
        """Whether the rounds are generators of ready-made answers: nothing was trained."""
        return bool(self.config.get("inference", {}).get("kind", "local") != "local")

    @property
    def stage_paths(self) -> list[str]:
        """The paths of all stages, each once."""
        plans = [self.stages, *(step.stages for step in self.rounds)]
        plans += [] if self.holdout is None else [self.holdout.stages]
        return list(dict.fromkeys(path for plan in plans for path in plan.values()))

    def stage(self, path: str) -> StageDir:
        """Return the directory of a stage."""
        return StageDir(self.root / path)


def run_files(root: Path) -> list[Path]:
    """Return every run.json below a root, of real runs and of rehearsals."""
    folders = (root / "run", root / "rehearsal" / "run")
    return sorted(path for folder in folders for path in folder.glob("*/run.json"))


def find_run(root: Path, name: str | None) -> Path:
    """Return the run.json of a name or a path; None or "latest" is the one that changed last."""
    known = run_files(root)
    where = f"{root / 'run'} or {root / 'rehearsal' / 'run'}"
    if name is None or name == "latest":
        if not known:
            raise BadInput(f"there is no run in {where} yet; `understudy run` makes one")
        return max(known, key=lambda path: (path.stat().st_mtime_ns, path))
    for path in (Path(name), Path(name) / "run.json"):
        if path.name == "run.json" and path.is_file():
            return path.absolute()
    named = [path for path in known if path.parent.name == name]
    if len(named) > 1:
        paths = " or ".join(str(path.parent) for path in named)
        raise BadInput(f"{name} is a real run and a rehearsal; give the path {paths}")
    if not named:
        names = sorted({path.parent.name for path in known})
        hint = suggest(name, names) if names else "; there is no run yet"
        raise BadInput(f"no run {name!r} in {where}{hint}")
    return named[0]
