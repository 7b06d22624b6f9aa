"""Stage directories: `runs/<stage>/<fingerprint>/`, filled by attempts, finished by `DONE`.

config.json inputs.json meta.json log.txt DONE
failed.json          why the last attempt ended without DONE; slurm.json: the job that does it
out/                 what downstream reads; appears by one rename
attempts/<token>/    out/ and scratch/ of work in progress; a crash leaves it to be continued
"""

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from understudy.config import Config
from understudy.errors import BadInput
from understudy.records import Key, R, dumps, read_rows

_LINE = json.JSONEncoder(default=dataclasses.asdict)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys and compact separators; floats by repr, so 1e-4 equals 0.0001."""
    return _CANONICAL.encode(value)


def fingerprint(document: Any) -> str:
    """First 16 hex digits of the SHA-256 of the document's canonical JSON."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()[:16]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a directory's names and bytes; never of its path."""
    total = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        raise BadInput(f"{path} does not exist or is empty; give a file, or a directory with files")
    for file in files:
        name = "" if file == path else file.relative_to(path).as_posix()
        total.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()


def lines(values: Mapping[str, Any]) -> str:
    """JSON with a line for each key; a dataclass is its fields.

    Python's own indentation takes four times as long.
    """
    inner = ",\n".join(f'"{key}": {_LINE.encode(value)}' for key, value in values.items())
    return f"{{\n{inner}\n}}"


def write_atomically(
    path: Path, content: str | bytes, is_flushed: bool = True, is_private: bool = False
) -> None:
    """Write through a temporary name, flushed to disk before the rename.

    A caller that writes thousands of files may flush them all at once instead (`os.sync`). What
    holds users' texts is private: for its owner only.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    mode = 0o600 if is_private else 0o666
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        if is_flushed:
            os.fsync(descriptor)
    temporary.replace(path)


@dataclass(frozen=True)
class StageDir:
    """One stage's directory."""

    path: Path

    @property
    def out(self) -> Path:
        """What downstream stages read; complete once `is_done`."""
        return self.path / "out"

    @property
    def is_prepared(self) -> bool:
        """Whether a worker can begin."""
        return (self.path / "config.json").is_file()

    @property
    def is_done(self) -> bool:
        """Whether the stage is finished for good."""
        return (self.path / "DONE").is_file()

    def prepare(self, config: dict[str, Any], inputs: dict[str, Any]) -> None:
        """Freeze what the worker will read; a finished stage keeps its own."""
        self.freeze(lines(config), lines(inputs))

    def freeze(self, config: str, inputs: str, is_flushed: bool = True) -> None:
        """Freeze it as JSON that is written already."""
        if not self.is_done:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / "config.json", config, is_flushed)
            write_atomically(self.path / "inputs.json", inputs, is_flushed)

    def read(self, name: str) -> Any:
        """A JSON file of this directory."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def warnings(self) -> list[str]:
        """What the finished stage wants said: rows and columns that it left out."""
        if not self.is_done:
            return []
        warnings: list[str] = self.read("meta.json").get("warnings", [])
        return warnings

    def open_attempt(self) -> Path:
        """The newest unfinished attempt under a token of our own, or a fresh one."""
        attempts = self.path / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        mine = attempts / secrets.token_hex(6)
        left = sorted(attempts.iterdir(), key=lambda p: p.stat().st_mtime)
        if left:
            left[-1].rename(mine)
        for name in ("out", "scratch"):
            (mine / name).mkdir(parents=True, exist_ok=True)
        return mine

    def publish(self, attempt: Path, meta: dict[str, Any]) -> None:
        """Rename the attempt's out/ into place, then write `DONE`, last."""
        write_atomically(self.path / "meta.json", json.dumps(meta, indent=1))
        (attempt / "out").rename(self.out)
        self.finish()

    def finish(self) -> None:
        """Write `DONE` for a published out/ and drop what the attempts left."""
        write_atomically(self.path / "DONE", "")
        shutil.rmtree(self.path / "attempts", ignore_errors=True)


@dataclass(frozen=True)
class Job:
    """What a stage's `run(job)` gets: what to do, what to read, where to write."""

    config: Config
    params: dict[str, Any]
    inputs: dict[str, Path]  # role -> out/ of the upstream stage
    out: Path  # becomes the stage's out/
    scratch: Path  # survives a crash, is never published
    root: Path = Path("runs")  # of the runs; the call journal lies below it
    stage: str = ""  # its directory, below the root
    purse: str = ""  # the run or sweep that pays for its calls
    notes: dict[str, Any] = field(default_factory=dict)  # for meta.json

    def rows(self, role: str, kind: type[R]) -> list[R]:
        """All rows of an upstream stage."""
        return list(read_rows(self.inputs[role] / "rows.jsonl", kind))

    def summary(self, role: str) -> Any:
        """The summary that an upstream stage wrote."""
        return json.loads((self.inputs[role] / "summary.json").read_text(encoding="utf-8"))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """This stage's summary.json."""
        write_atomically(self.out / "summary.json", json.dumps(summary, indent=1, allow_nan=False))


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of an append-only file (made if absent); one torn by a crash is cut off."""
    path.touch()
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return map(json.loads, whole.decode().split("\n")[:-1])  # splitlines() would split at U+2028


class RowLog(Generic[R]):
    """The rows of a stage in progress: appended as they come, sorted by key at the end.

    A line torn by a crash is cut when the log is opened again; `done` holds the keys on disk.
    """

    def __init__(self, out: Path, kind: type[R]) -> None:
        self.path = out / "rows.jsonl"
        self.rows: dict[Key, R] = {}
        for number, values in enumerate(whole_lines(self.path), 1):
            row = kind.from_dict(values, f"{self.path}:{number}")
            self.rows[row.key] = row

    def append(self, rows: Iterable[R]) -> None:
        """Write rows through to the file; a key already there is an error of ours."""
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                assert row.key not in self.rows, f"{row.key} is in {self.path} already"
                self.rows[row.key] = row
                file.write(dumps(row.to_dict()) + "\n")

    def finish(self) -> list[R]:
        """Rewrite the file sorted by key, so that its bytes do not tell how it was made."""
        ordered = [self.rows[key] for key in sorted(self.rows)]
        write_atomically(self.path, "".join(dumps(row.to_dict()) + "\n" for row in ordered))
        return ordered
