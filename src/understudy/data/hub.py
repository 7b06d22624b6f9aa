"""Data sets on the hub: a name pinned to a revision once, and the rows of one.

The hub is probed once, for two seconds; when it does not answer, only the local cache is asked.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from understudy.config import ModelConfig
from understudy.config.source import Source
from understudy.data.reading import Raw
from understudy.errors import BadInput
from understudy.store import hub
from understudy.store.artifacts import write_atomically

Kind = Literal["dataset", "model"]


def pin(source: Source, record: Path) -> None:
    """Give an unpinned source the revision that `record` has, or resolve and record it."""
    assert source.repo is not None, "a hub source has a repo"
    if source.revision is None and not _is_local(source.repo):
        source.revision = _recorded(source.repo, "dataset", record)


def pin_model(model: ModelConfig, record: Path) -> None:
    """The same for a base model that is on the hub."""
    if model.path is None and model.repo is not None and model.revision is None:
        model.revision = _recorded(model.repo, "model", record)


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


def check(source: Source) -> None:
    """BadInput when a data set can be had neither from the hub nor from the local cache."""
    assert source.repo is not None, "a hub source has a repo"
    if not _is_local(source.repo) and not is_reachable() and not _is_cached(source.repo):
        raise BadInput(_not_here(source))


def read_hub(source: Source) -> list[Raw]:
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
    source = Source(repo=repo, subset=subset, revision=revision)
    if not _is_local(repo) and not is_reachable():
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when `datasets` is imported
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(repo, subset, revision=revision)
    except (ConnectionError, DatasetNotFoundError, FileNotFoundError) as error:
        if is_reachable():
            raise BadInput(f"{_name(source)} cannot be had: {first_line(error)}") from None
        raise BadInput(_not_here(source)) from None
    except ValueError as error:  # an unknown subset, among others
        raise BadInput(f"{_name(source)} cannot be read: {first_line(error)}") from None


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
    raise BadInput(_not_here(Source(repo=repo)))


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


def _name(source: Source) -> str:
    return f"{source.repo}@{source.revision or 'main'}"


def _not_here(source: Source) -> str:
    return (
        f"{_name(source)} is not in the local cache and the hub cannot be reached; "
        "load it once where there is a network, or give the file with kind=file and path"
    )


def first_line(error: Exception) -> str:
    """What an error of the hub's libraries says, without the advice below it."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
