"""What the goldens are made of: computed alike by `make.py`, which stores it, and by the tests.

All that they import of the package stands here, so that a module that moves is one line.
"""

import contextlib
import hashlib
import html
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from understudy import config
from understudy.cli.main import main
from understudy.config import Config, compose
from understudy.data.prepare import prepare
from understudy.errors import UnderstudyError
from understudy.evaluation.judge import index_of
from understudy.pipeline.flow import flow_of
from understudy.pipeline.run import run_root
from understudy.prompts import judge as judge_prompt
from understudy.prompts import synthesis as synthesis_prompt
from understudy.services.base import Request
from understudy.services.journal import key_of, open_journal
from understudy.sweep import cells as sweep_cells

__all__ = ["UnderstudyError", "main", "open_journal", "run_root"]

HERE = Path(__file__).resolve().parents[1] / "goldens"
NAME = "run_root_90baa9b"
ARCHIVE = HERE / f"{NAME}.tar.gz"
# Routers have no stages, workloads are files of the user's own, weights may not be installed, and
# what goldens are of had no tools.
WITHOUT = ("routing/", "workloads/", "real", "tools")
FILES = ("fingerprints", "random_fingerprints", "journal_keys", "pages")
_COMPOSER = compose.Composer(None)  # which reads every file of conf/ once
_WHOLE = 24  # cells of which every fingerprint is stored; of more cells, a digest


def stored(name: str) -> Any:
    """What `make.py` has written."""
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# --- fingerprints ---------------------------------------------------------------------------------


def here(overrides: list[str]) -> list[str]:
    """Overrides with the place of the files beside this one."""
    return [override.replace("{here}", str(HERE)) for override in overrides]


def configs(overrides: list[str]) -> dict[str, Config]:
    """The config of every cell by its label, pinned as a run would pin it."""
    given = here(overrides)
    grid = compose.grid(given, None)
    if grid.axes:
        return {cell.label: cell.config for cell in sweep_cells.expand(grid, _COMPOSER).cells}
    return {"": pinned(built(given))}


def built(overrides: list[str]) -> Config:
    """The config of overrides without an axis."""
    return config.build(_COMPOSER.values(overrides))


def pinned(one: Config) -> Config:
    """With hub names pinned from `hub.json`; a data set must be here, so it has its revision."""
    if "hub" not in (one.coverage.kind, one.synthesis.kind, one.inference.kind):
        return prepare(one, HERE / "hub.json").config
    return one


def stages_of(one: Config) -> dict[str, str]:
    """Place and role → path of every stage, fingerprint last."""
    flow = flow_of(one)
    plans = {"shared": flow.shared, "probe": flow.probe}
    for number in range(len(flow.sizes)):
        plans[f"round {number}"] = flow.round(number)
        plans[f"holdout {number}"] = flow.holdout(number)
    return {f"{place}: {r}": s.path for place, plan in plans.items() for r, s in plan.items()}


def fingerprints(overrides: list[str]) -> dict[str, Any]:
    """Every stage of every cell; a digest and counts where there are many cells."""
    cells = {label: stages_of(one) for label, one in configs(overrides).items()}
    lines = [f"{c}\t{role}\t{path}" for c, found in cells.items() for role, path in found.items()]
    paths = {path for found in cells.values() for path in found.values()}
    counts = Counter(path.partition("/")[0] for path in paths)
    told = {
        "overrides": overrides,
        "cells": len(cells),
        "stages": dict(sorted(counts.items())),
        "digest": sha256("\n".join(sorted(lines))),
    }
    return told | ({"by_cell": cells} if len(cells) <= _WHOLE else {})


# --- journal keys ---------------------------------------------------------------------------------

_WORDS = ("What is 2 + 2?", "It is 4.", "Four, “of course” – ✓.")
_OWN = ("base_url=http://127.0.0.1:18766/v1", "model=some-model")
_SERVICES = (
    *("gpt_4o", "gpt_6_1_terra", "claude_sonnet_5_5", "claude_haiku_5_5", "gemini_3_8_flash"),
    *("gemini_3_5_flash_lite", "openai_compatible", "offline", "offline_strict"),
)
_MORE = {  # what else an identity or a call consists of
    "gpt_6_1_terra": ("reasoning=high", "temperature=0.5", "max_output_tokens=17"),
    "claude_sonnet_5_5": ("reasoning=2000", "structured=false"),
    "gemini_3_8_flash": ("temperature=1", "base_url=http://127.0.0.1:1/google"),
}
_REPEATS = ((0, 0), (0, 9), (1, 0), (3, 7))  # k, m


def journal_keys() -> dict[str, str]:
    """Service, role and index → the key under which its reply is filed."""
    found: dict[str, str] = {}
    for name in _SERVICES:
        variants = [(), *((word,) for word in _MORE.get(name, ())), ("rehearsed",)]
        for more in variants:
            found |= _keys_of(name, more)
    return found


def _keys_of(name: str, more: tuple[str, ...]) -> dict[str, str]:
    roles = {"judge": f"judges.{name}", "teacher": "synthesis.service"}
    roles["baseline"] = "baseline.service"
    leaves = [*(_OWN if name == "openai_compatible" else ()), *(m for m in more if "=" in m)]
    overrides = [
        *("baseline=gpt_4o", "judge=none", "synthesis=gpt_4o", f"+service@judges.{name}={name}"),
        *(f"service@{roles[role]}={name}" for role in ("teacher", "baseline")),
        *(f"{role}.{leaf}" for role in roles.values() for leaf in leaves),
        *(["rehearsal.url=http://127.0.0.1:9"] if "rehearsed" in more else []),
    ]
    one = built(overrides)
    assert one.synthesis.service is not None
    assert one.baseline.service is not None
    title = " ".join([name, *more])
    found: dict[str, str] = {}
    for (variant, order), (k, m) in _asked():
        messages = judge_prompt.render(variant, order, *_WORDS)
        request = Request(messages, index_of(k, m), judge_prompt.schema(variant))
        key = key_of(one.judges[name], request).hex()
        found[f"{title}: judge {variant} {order} k={k} m={m}"] = key
        again = judge_prompt.repair(messages, "no JSON", variant)
        assert again is not None
        request = Request(again, index_of(k, m), judge_prompt.schema(variant))
        key = key_of(one.judges[name], request).hex()
        found[f"{title}: judge {variant} {order} k={k} m={m}, repair"] = key
    for task in ("closed_qa", "coding"):
        messages = synthesis_prompt.render(_WORDS[0], _WORDS[1], "Some topic", 5, task)
        for number in (0, 41):
            request = Request(messages, index=number, schema=synthesis_prompt.SCHEMA)
            key = key_of(one.synthesis.service, request).hex()
            found[f"{title}: teacher {task} call={number}"] = key
    for k in (0, 3):
        request = Request(({"role": "user", "content": _WORDS[0]},), index=k)
        found[f"{title}: baseline k={k}"] = key_of(one.baseline.service, request).hex()
    return found


def _asked() -> Iterator[tuple[tuple[Any, Any], tuple[int, int]]]:
    for repeat in _REPEATS:
        yield ("default", "reference_first"), repeat
    for variant in ("paper", "paraphrased", "scale_5"):
        yield (variant, "reference_first"), (1, 2)
    yield ("default", "candidate_first"), (1, 2)


# --- pages ----------------------------------------------------------------------------------------

PLANS = {  # of big models: a small one would train on the GPU of a machine that has one
    "demo": ["experiment=demo", "model=gemma_2b", "trainer=lora"],
    "paid": [
        *("judge=today_panel", "baseline=gpt_6_1_terra", "synthesis=gpt_6_1_terra"),
        *("model=gemma_2b", "trainer=lora", "data_size=1k", "budget.usd=50"),
    ],
    "sweep": ["sweep=tasks", "data_size=250", "model=gemma_7b", "trainer=qlora"],
}


def said_by(*words: str, code: int = 0) -> tuple[str, str]:
    """What the command line says on stdout and stderr."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        got = main(list(words))
    assert got == code, f"exit {got}\n{out.getvalue()}\n{error.getvalue()}"
    return out.getvalue(), error.getvalue()


def unpack(directory: Path) -> Path:
    """The run root of this version, a fresh copy."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(directory, filter="data")
    return directory / NAME


def without(text: str, *places: Path) -> str:
    """A text with the directories of this machine called ROOT, as a path or a part of one."""
    for place in places:
        for spelled in dict.fromkeys((str(place), str(place.resolve()))):
            text = text.replace(html.escape(spelled), "ROOT").replace(spelled, "ROOT")
    return text


def words_of(page: str) -> str:
    """The visible text of an HTML page, a line per block, to see what differs."""
    text = re.sub(r"(?s)<(style|script|svg)\b.*?</\1>", "", page)
    text = html.unescape(re.sub(r"<[^>]+>", "\n", text))
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def pages(directory: Path) -> dict[str, Any]:
    """The plans, and what status, decide and report say of the run root, in an empty directory."""
    made: dict[str, Any] = {"plan": {}}
    for name, overrides in PLANS.items():
        made["plan"][name] = said_by("plan", *overrides, f"paths.root={directory / 'empty'}")[0]
    root = unpack(directory)
    told = ("--root", str(root))
    made["status"] = without(said_by("status", "golden", *told)[0], root)
    made["decide"] = without(said_by("decide", "golden", *told, code=1)[0], root)
    made["report"] = without(said_by("report", "golden", *told)[0], root)
    out, pairs = directory / "coverage.jsonl", root / "rehearsal/gateway/pairs/2026-11-29.jsonl"
    said_by("collect", str(pairs), "--out", str(out))
    made["collected"] = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    page = (root / "rehearsal/run/golden/report.html").read_text(encoding="utf-8")
    made["page"] = {"sha256": sha256(without(page, root)), "words": words_of(without(page, root))}
    return made
