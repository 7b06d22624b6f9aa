"""The router as files: `router.json` for people, `router.npz` for numpy; no pickle.

    router = artifact.load(folder)
    router.choose(artifact.text_of(messages))     # the name of an LLM, in less than a millisecond

Loading and choosing need numpy alone.
"""

import json
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import BadInput
from understudy.records import Message, written
from understudy.routing.costs import CostModel, lengths
from understudy.routing.exact import worth
from understudy.routing.features import Projection
from understudy.routing.predict import KINDS, Array, Predictor, Trust
from understudy.store.artifacts import write_atomically

VERSION = 2  # raise it when the files or what the hashing makes of a text change
_READ = (1, VERSION)  # 1 looked at eight neighbours always, which the learner takes for its default


@dataclass(frozen=True)
class Router:
    """The rule argmax over LLMs of success - price * cost, query by query."""

    llms: list[str]
    predictor: Predictor
    costs: CostModel
    price: float  # lambda, in expected successes per USD
    facts: dict[str, Any] = field(default_factory=dict)  # where it comes from, what it promises

    def estimate(self, text: str) -> tuple[Array, Array]:
        """Predicted success and USD of each LLM, each (M,)."""
        return self.predictor([text])[0], self.costs(lengths([text]))[0]

    def choose(self, text: str, without: Collection[str] = ()) -> str:
        """The LLM for a query, ties to the cheaper; `without` names LLMs that are unavailable."""
        success, usd = self.estimate(text)
        values = worth(success, usd, self.price)
        order = sorted(range(len(self.llms)), key=lambda llm: (-values[llm], usd[llm]))
        for llm in order:
            if self.llms[llm] not in without:
                return self.llms[llm]
        raise BadInput(f"no LLM is left: all of {', '.join(self.llms)} are excluded")


def text_of(messages: Sequence[Message]) -> str:
    """What a router reads of a conversation: the turns up to the wanted answer."""
    return "\n".join(map(written, messages))


def save(router: Router, folder: Path) -> None:
    """Write both files; the JSON comes last, so a folder that has it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    predictor = router.predictor
    parts: dict[str, Any] = {
        "learner": predictor.learner,
        "costs": router.costs,
        "projection": predictor.projection,
    }
    arrays = {
        f"{part}.{item.name}": getattr(value, item.name)
        for part, value in parts.items()
        if value is not None
        for item in fields(value)
    }
    temporary = folder / ".router.npz"
    with temporary.open("wb") as file:
        np.savez(file, means=predictor.means, **arrays)
    temporary.replace(folder / "router.npz")
    document = {
        "version": VERSION,
        "llms": router.llms,
        "price": router.price,
        "learner": predictor.kind,
        "trust": predictor.trust._asdict(),
        "alpha": predictor.alpha,
        "facts": router.facts,
    }
    write_atomically(folder / "router.json", json.dumps(document, indent=1, allow_nan=False) + "\n")


def load(folder: Path) -> Router:
    """The router in a folder; BadInput when there is none, or one of another version."""
    try:
        document = json.loads((folder / "router.json").read_text(encoding="utf-8"))
        with (
            (folder / "router.npz").open("rb") as file,  # numpy leaves a bad one open
            np.load(file, allow_pickle=False) as stored,
        ):
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{folder} holds no router that can be read: {error}") from None
    if not isinstance(document, dict):
        raise BadInput(f"{folder} holds no router that can be read: router.json is no object")
    if document.get("version") not in _READ:
        raise BadInput(
            f"{folder} holds a router of version {document.get('version')}, this program reads "
            f"{' and '.join(map(str, _READ))}: make it again with `understudy route`"
        )

    def part(kind: Any, prefix: str) -> Any:
        names = [item.name for item in fields(kind) if f"{prefix}.{item.name}" in arrays]
        return kind(**{name: arrays[f"{prefix}.{name}"] for name in names})

    has_text = "projection.weights" in arrays
    predictor = Predictor(
        document["learner"],
        part(KINDS[document["learner"]], "learner"),
        arrays["means"],
        Trust(**document["trust"]),
        document["alpha"],
        part(Projection, "projection") if has_text else None,
    )
    costs = part(CostModel, "costs")
    return Router(document["llms"], predictor, costs, document["price"], document["facts"])
