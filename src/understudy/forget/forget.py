"""Where one user's words lie below a root, and taking them out.

Removed: lines of gateways' logs, labels, what a watch judged, and coverage or shadow files that
runs have read or that are named. Only named: finished stages, whose bytes are what their
fingerprint promises, and everything that was made from them; replies in the journal are those
stages' too. A user is known by the id itself or by the digests that `collect`, a gateway and
`inference=file` keep of it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from understudy.evaluation.labels import DRAW, FOLDER, LABELS
from understudy.pipeline.record import RunRecord, run_files
from understudy.records import read_objects
from understudy.store.artifacts import StageDir, canonical, write_atomically

_USERS = (
    *("user", "user_id", "userId", "safety_identifier", "end_user", "endUser", "userIdentifier"),
    *("group_id", "group", "whose"),
)
_WITHIN = ("metadata", "request", "body")
_ROWS = "rows.jsonl"
_KINDS = ("pairs", "local_pairs", "shadow", "requests")


class UserRows(NamedTuple):
    """What tells a user's rows from others'."""

    names: frozenset[str]  # the id and its digests
    ids: frozenset[str] = frozenset()  # of rows and requests that are theirs

    @classmethod
    def of(cls, user: str) -> "UserRows":
        """The id, and what is kept instead of it."""
        as_group = {user, _sha(user), _sha(f"user {user}")}
        return cls(frozenset(as_group | {_sha(canonical(["group", one])) for one in as_group}))

    def has(self, row: Any) -> bool:
        """Whether a row is the user's."""
        if not isinstance(row, dict):
            return False
        if any(str(row[name]) in self.names for name in _USERS if row.get(name) is not None):
            return True
        own = (row.get(name) for name in ("id", "request_id", "prompt_id", "seed_id"))
        if any(isinstance(one, str) and one in self.ids for one in own):
            return True
        return any(self.has(row.get(name)) for name in _WITHIN)


class Forgotten(NamedTuple):
    """What was found: rows by file, files that stay and why, and stages."""

    removed: dict[Path, int]
    left: dict[Path, str]
    stages: list[str]  # that hold rows of the user's
    made_from: list[str]  # stages that these went into


def forget(
    root: Path, user: str, files: Iterable[Path], is_busy: Callable[[Path], bool], is_dry: bool
) -> Forgotten:
    """Take the user's rows out of everything below `root` and of `files`.

    `is_busy` says of a gateway's folder whether one writes there; its files are then left alone.
    """
    known, removed, left = UserRows.of(user), dict[Path, int](), dict[Path, str]()
    places = [folder for folder in (root, root / "rehearsal") if folder.is_dir()]
    stages = [stage for place in places for stage in _stages(place)]
    ids = {row_id for stage in stages for row_id in _ids(stage.out / _ROWS, known)}
    for place in places:
        for kind in _KINDS:
            for path in sorted((place / "gateway" / kind).glob("*.jsonl")):
                ids |= set(_ids(path, known))
    known = known._replace(ids=frozenset(ids))

    def clean(path: Path) -> None:
        if path in removed or path in left or not path.is_file():
            return
        count, why = _without(path, known, is_dry)
        if count:
            removed[path] = count
        elif why is not None:
            left[path] = why

    for place in places:
        busy = is_busy(place / "gateway")
        for kind in _KINDS:
            for path in sorted((place / "gateway" / kind).glob("*.jsonl")):
                if busy and any(known.has(row) for row in read_objects(path)):
                    left[path] = "a gateway runs there; stop it first"
                elif not busy:
                    clean(path)
        for path in sorted((place / "watch").glob("*/*.jsonl")):
            clean(path)
    for run_json in run_files(root):
        _labels(run_json.parent / FOLDER, known, clean, removed, is_dry)
        for path in _sources(run_json):
            clean(path)
    for path in files:
        clean(path)
    held = [
        stage for stage in stages if any(known.has(row) for row in read_objects(stage.out / _ROWS))
    ]
    names = {_name(stage) for stage in held}
    return Forgotten(removed, left, sorted(names), sorted(_downstream(stages, names) - names))


def _labels(
    folder: Path,
    known: UserRows,
    clean: Callable[[Path], None],
    removed: dict[Path, int],
    is_dry: bool,
) -> None:
    """Labels and their draw; the page holds texts and is deleted whole."""
    clean(folder / LABELS)
    draw = folder / DRAW
    values = json.loads(draw.read_text(encoding="utf-8")) if draw.is_file() else {"items": []}
    kept = [one for one in values["items"] if not known.has(one)]
    if len(kept) == len(values["items"]):
        return
    removed[draw] = len(values["items"]) - len(kept)
    if not is_dry:
        write_atomically(draw, json.dumps(values | {"items": kept}), is_private=True)
    page = folder / "label.html"
    if page.is_file():
        removed[page] = removed[draw]
        if not is_dry:
            page.unlink()


def _sources(run_json: Path) -> list[Path]:
    """The files that a run has read, wherever they are."""
    config = RunRecord.read(run_json).config
    groups = [config.get(name) or {} for name in ("coverage", "synthesis", "inference")]
    paths = [group["path"] for group in groups if group.get("path")]
    return [path for one in paths if (path := Path(one).expanduser()).is_file()]


def _stages(root: Path) -> list[StageDir]:
    return [StageDir(path.parent) for path in sorted(root.glob("*/*/inputs.json"))]


def _name(stage: StageDir) -> str:
    return f"{stage.path.parent.name}/{stage.path.name}"


def _downstream(stages: Iterable[StageDir], names: set[str]) -> set[str]:
    """The stages that read these, or what was made of them."""
    inputs = {_name(one): set(one.read("inputs.json").get("inputs", {}).values()) for one in stages}
    found: set[str] = set(names)
    while more := {name for name, of in inputs.items() if of & found} - found:
        found |= more
    return found


def _ids(path: Path, known: UserRows) -> Iterable[str]:
    """The ids of the user's rows in a file."""
    for row in read_objects(path):
        if known.has(row):
            yield from (str(row[n]) for n in ("id", "request_id", "prompt_id") if row.get(n))


def _without(path: Path, known: UserRows, is_dry: bool) -> tuple[int, str | None]:
    """Take the user's lines out of a file of JSON lines: how many, or why it stays as it is."""
    kept, count, odd = list[bytes](), 0, 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                is_theirs = known.has(json.loads(line))
            except ValueError:
                is_theirs, odd = False, odd + 1
            count += is_theirs
            if not is_theirs:
                kept.append(line)
    if odd and not count:
        whole = b"".join(kept)
        if any(name.encode() in whole for name in known.names):
            return 0, "it names the user and is no file of JSON lines; take the rows out by hand"
    if count and not is_dry:
        write_atomically(path, b"".join(kept), is_private=True)
    return count, None


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
