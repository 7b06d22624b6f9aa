"""A configured source of rows, a file or a data set on the hub: checked, then read by stages.

A name on the hub is pinned to a revision once. The hub is probed once, for two seconds; when it
does not answer, only the local cache is asked.
"""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from understudy.config import Config, ModelConfig, changed
from understudy.config.source import Source
from understudy.data.reading import Raw, check_file, read_file
from understudy.data.rejects import BadRow, NotWanted
from understudy.errors import BadInput
from understudy.store import hub
from understudy.store.artifacts import write_atomically

_log = logging.getLogger(__name__)
Kind = Literal["dataset", "model"]
_NAMED = 100  # bad rows that the log names; the rest is counted
T = TypeVar("T")


class Taken(NamedTuple, Generic[T]):
    """What became of the rows of a source; every row is in exactly one of the three."""

    rows: list[tuple[Raw, T]]
    not_wanted: Counter[str]
    bad: list[str]  # place and reason


def of(config: Config) -> dict[str, Source]:
    """The sources of a run that are files or hub data sets, by config group."""
    groups: dict[str, Any] = {"coverage": config.coverage, "synthesis": config.synthesis}
    if config.inference.kind != "local":  # then nothing else is read
        groups = {"inference": config.inference}
    return {name: part for name, part in groups.items() if part.kind in ("file", "hub")}


def check(config: Config, record: Path) -> Config:
    """Look for what is missing; return the config with its hub names pinned, as in `record`."""
    found: dict[str, str | None] = {}
    for name, source in of(config).items():
        try:
            if source.path is not None:
                path = Path(source.path).expanduser().absolute()
                check_file(path)
                found[f"{name}.path"] = str(path)  # a worker may start in another directory
            else:
                check_hub(source)
                found[f"{name}.revision"] = pinned(source, record)
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None
    if config.inference.kind == "local":
        found["model.revision"] = pinned_model(config.model, record)
    return changed(config, found)


def read(source: Source) -> Sequence[Raw]:
    """All rows."""
    if source.path is not None:
        return read_file(Path(source.path).expanduser())
    return _read_hub(source)


def where(source: Source) -> str:
    """What to call a source in a sentence."""
    return str(source.path if source.path is not None else source.repo)


def log(bad: Sequence[str]) -> None:
    """Name the rows that a stage skips in its log."""
    for sentence in bad[:_NAMED]:
        _log.warning("skipped: %s", sentence)


def take(raws: Sequence[Raw], convert: Callable[[dict[str, Any]], T], tolerance: float) -> Taken[T]:
    """Convert every row; BadInput names the first bad one when more than `tolerance` are."""
    taken: Taken[T] = Taken([], Counter(), [])
    for raw in raws:
        try:
            if raw.values is None:
                raise BadRow(raw.problem)
            taken.rows.append((raw, convert(raw.values)))
        except NotWanted as reason:
            taken.not_wanted[str(reason)] += 1
        except BadRow as reason:
            taken.bad.append(f"{raw.place} {reason}")
    if len(taken.bad) > tolerance * len(raws):
        raise BadInput(
            f"{taken.bad[0]} ({len(taken.bad)} of {len(raws)} rows are bad, and "
            f"tolerance={tolerance:g} allows {int(tolerance * len(raws))})"
        )
    return taken


def pinned(source: Source, record: Path) -> str | None:
    """Return the revision of a source: its own, that in `record`, or the newest, then recorded."""
    assert source.repo is not None, "a hub source has a repo"
    if source.revision is None and not _is_local(source.repo):
        return _recorded(source.repo, "dataset", record)
    return source.revision


def pinned_model(model: ModelConfig, record: Path) -> str | None:
    """Return the same for a base model, where it is on the hub."""
    if model.path is None and model.repo is not None and model.revision is None:
        return _recorded(model.repo, "model", record)
    return model.revision


def _recorded(repo: str, kind: Kind, record: Path) -> str:
    known: dict[str, str] = {}
    if record.is_file():
        known = json.loads(record.read_text(encoding="utf-8"))
    name = repo if kind == "dataset" else f"model {repo}"
    if name not in known:
        known[name] = _resolve(repo, kind)
        record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(record, json.dumps(known, indent=1))
    return known[name]


def check_hub(source: Source) -> None:
    """BadInput when a data set can be had neither from the hub nor from the local cache."""
    assert source.repo is not None, "a hub source has a repo"
    if not _is_local(source.repo) and not is_reachable() and not _is_cached(source.repo):
        raise BadInput(_not_here(_name(source.repo, source.revision)))


def fetch(source: Source) -> None:
    """Bring a hub data set into the cache, or see that it is there; BadInput where it is not."""
    assert source.repo is not None, "a hub source has a repo"
    _load(source.repo, source.subset, source.revision)


def _read_hub(source: Source) -> list[Raw]:
    """The rows of the wanted parts; a part's split stands in `split` unless the rows have one."""
    assert source.repo is not None, "a hub source has a repo"
    data = _load(source.repo, source.subset, source.revision)
    if unknown := sorted(source.parts.keys() - data.keys()):
        raise BadInput(f"{source.repo} has no part {unknown[0]}; its parts are {', '.join(data)}")
    return [
        Raw(f"{source.repo} {part} row {number}", {"split": source.parts.get(part)} | row)
        for part in source.parts or data
        for number, row in enumerate(data[part], 1)
    ]


@lru_cache(maxsize=2)
def _load(repo: str, subset: str | None, revision: str | None) -> Any:
    """All parts of a data set, by name."""
    name = _name(repo, revision)
    if not _is_local(repo) and not is_reachable():
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when `datasets` is imported
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(repo, subset, revision=revision)
    except (ConnectionError, DatasetNotFoundError, FileNotFoundError) as error:
        if is_reachable():
            raise BadInput(f"{name} cannot be had: {first_line(error)}") from None
        raise BadInput(_not_here(name)) from None
    except ValueError as error:  # an unknown subset, among others
        raise BadInput(f"{name} cannot be read: {first_line(error)}") from None


def _resolve(repo: str, kind: Kind) -> str:
    """The 40 hex digits of the newest revision, from the hub, else from the local cache."""
    if is_reachable():
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return str(HfApi().repo_info(repo, repo_type=kind, timeout=10).sha)
        except HfHubHTTPError as error:
            raise BadInput(f"{repo} cannot be had from the hub: {first_line(error)}") from None
    refs = _cache(repo, kind) / "refs" / "main"
    if refs.is_file() and re.fullmatch(r"[0-9a-f]{40}", sha := refs.read_text().strip()):
        return sha
    if kind == "model":
        raise BadInput(
            f"model.revision of {repo} is not given, and the hub, which knows the newest, cannot "
            "be reached; give its 40 hex digits"
        )
    raise BadInput(_not_here(_name(repo, None)))


def is_reachable() -> bool:
    """Whether the hub answers, and may be asked."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and hub.answers(constants.ENDPOINT)


def _is_cached(repo: str) -> bool:
    from huggingface_hub import constants

    prepared = Path(constants.HF_HOME) / "datasets" / repo.replace("/", "___")
    return (_cache(repo) / "snapshots").is_dir() or prepared.is_dir()


def _cache(repo: str, kind: Kind = "dataset") -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{repo.replace('/', '--')}"


def _is_local(repo: str) -> bool:
    return repo.startswith(("/", "./", "../"))


def _name(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision or 'main'}"


def _not_here(name: str) -> str:
    return (
        f"{name} is not in the local cache and the hub cannot be reached; "
        "load it once where there is a network, or give the file with kind=file and path"
    )


def first_line(error: Exception) -> str:
    """What an error of the hub's libraries says, without the advice below it."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
