"""Models and data sets of a command: brought into the cache, or named where they are missing.

The cache is the hub client's: HF_HOME says where. Nothing here loads a model.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from understudy.config import Config, ModelConfig, changed
from understudy.config.command_line import command
from understudy.config.source import Source
from understudy.data import sources
from understudy.data.reading import check_file
from understudy.errors import BadInput, UnderstudyError
from understudy.models import load

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


class Item(NamedTuple):
    """One thing that a command reads and that is not made by it."""

    group: str  # of the config
    name: str  # a repository and its revision, or a path
    what: ModelConfig | Source

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{self.group} {self.name}"


class Looked(NamedTuple):
    """What became of an item; `problem` says what is missing, and why."""

    item: Item
    is_fetched: bool
    problem: str | None


def items(configs: Iterable[Config]) -> list[Item]:
    """Return the models and data of these configs, each once."""
    found: dict[str, Item] = {}
    for config in configs:
        parts: dict[str, Any] = dict(sources.of(config))
        if config.inference.kind == "local":
            parts["model"] = config.model
        for group, what in parts.items():
            name = what.path or f"{what.repo}@{what.revision or 'main'}"
            found.setdefault(f"{group} {name}", Item(group, name, what))
    return sorted(found.values(), key=lambda item: item.group == "model")  # load.directory is last


def fetch(configs: Iterable[Config], record: Path) -> Iterator[Looked]:
    """Bring each item into the cache, data sets first; pinned revisions are kept in `record`."""
    found, is_online = items(configs), sources.is_reachable()
    pinned: list[tuple[Item, UnderstudyError | None]] = []
    for item in found:  # all of them first: loading a model takes the hub client offline
        try:
            pinned.append((item._replace(what=_pinned(item.what, record)), None))
        except UnderstudyError as error:
            pinned.append((item, error))
    for item, problem in pinned:
        try:
            if problem is not None:
                raise problem
            yield Looked(item, _fetch(item.what, is_online), None)
        except UnderstudyError as error:
            yield Looked(item, False, str(error))


def _pinned(what: ModelConfig | Source, record: Path) -> ModelConfig | Source:
    if what.path is not None:
        return what
    if isinstance(what, ModelConfig):
        return changed(what, {"revision": sources.pinned_model(what, record)})
    sources.check_hub(what)
    return changed(what, {"revision": sources.pinned(what, record)})


def _fetch(what: ModelConfig | Source, is_online: bool) -> bool:
    """Whether a model had to be fetched; raises what is wrong with an item."""
    if isinstance(what, Source):
        if what.path is None:
            sources.fetch(what)
        else:
            check_file(Path(what.path).expanduser())
        return False
    lacks = missing(what) if what.path is None and what.repo is not None else ""
    if lacks and not is_online:
        raise BadInput(f"{lacks}, and the hub cannot be reached")
    if lacks or what.path is not None:
        load.directory(what)
    return bool(lacks)


def missing(model: ModelConfig) -> str:
    """Return what of a hub model is not in the cache; "" where all is there."""
    from huggingface_hub import constants, try_to_load_from_cache

    assert model.repo is not None, "only a model of the hub is looked for"
    where = f"in the cache of this machine ({constants.HF_HUB_CACHE})"
    config = try_to_load_from_cache(model.repo, "config.json", revision=model.revision)
    if not isinstance(config, str):
        return f"{model.repo} is not {where}"
    folder = Path(config).parent
    index, wanted = folder / "model.safetensors.index.json", {"model.safetensors"}
    if index.is_file():
        wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    lacks = sorted(name for name in wanted if not (folder / name).is_file())
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        lacks.append("tokenizer.json")
    return f"{', '.join(lacks)} of {model.repo} is not {where}" if lacks else ""


def check(configs: Iterable[Config]) -> list[str]:
    """Return a sentence for each hub model that is not in the cache whole.

    Raises BadInput with all of them before anything is queued, where this machine cannot reach the
    hub either and no `cluster.setup` may name another cache.
    """
    configs = list(configs)
    models = [item.what for item in items(configs)]
    told = []
    for model in models:
        if isinstance(model, ModelConfig) and model.path is None and (lacks := missing(model)):
            at = f" --revision {model.revision}" * (model.revision is not None)
            told.append(
                f"{lacks}; where compute nodes have no network, the first job that needs it fails: "
                f"{command('prefetch')} with the same words, or hf download {model.repo}{at}"
            )
    cluster = configs[0].cluster
    if told and cluster.kind == "slurm" and cluster.setup is None and not sources.is_reachable():
        raise BadInput(" · ".join(told))
    return told
