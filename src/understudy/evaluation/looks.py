"""The ledger of looks: which tests were made on a workload, in the order they were made.

A workload is a task's name, the service that is to be replaced, and the lineage of the local
models that are to replace it: all models of one name, however often they are trained anew. It is
not a set of prompts, because a gateway's shadows grow by the day, and each day's file shares most
of its prompts with the last: a set that grows by one prompt is the same workload looked at again.
Another model of the lineage, metric, margin, alpha, panel or set of prompts is another look; the
same evidence again is the same look.

The k-th look is tested at the one-sided level

    alpha_1 = 3/4 alpha        alpha_k = alpha / (4 k (k - 1))        k = 2, 3, ...

1 / (k (k - 1)) = 1 / (k - 1) - 1 / k, so the levels add up to alpha, and by the union bound all
looks together say MIGRATE falsely with probability at most alpha. The bound needs no independence:
looks share prompts, judges and models as they like. Three quarters are for the first look because
most workloads have one; the rest falls as 1 / k^2 and not by halves, so that a later look on more
data can still decide (the 10th has 1 / 360 of alpha, of halves it would have 1 / 1024).

A look is recorded before its result is told, in one append-only file per workload that all runs
below a root share. Up to version 90baa9b there was a file per set of prompts, and its lines did
not name their workload. They count where their stages show that it is ours, and also where their
stages are gone: what cannot be told must not lower the number.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from understudy.records import dumps
from understudy.store.artifacts import fingerprint, whole_lines


class Workload(NamedTuple):
    """What one ledger is about."""

    task: str
    service: str  # the service's model
    lineage: str  # the local model's name, without its revision


def level(alpha: float, look: int) -> float:
    """The one-sided level of the `look`-th look (from 1); over all looks they add up to `alpha`."""
    assert look >= 1, f"looks are counted from 1, not {look}"
    return 0.75 * alpha if look == 1 else alpha / (4 * look * (look - 1))


def spent(alpha: float, look: int) -> float:
    """What the looks up to this one have of `alpha` together: the sum of their levels."""
    assert look >= 1, f"looks are counted from 1, not {look}"
    return alpha * (1 - 1 / (4 * look))


def workload_of(config: Mapping[str, Any], local: str, service: str) -> Workload:
    """The workload of a run's config and the names of its two generators.

    A gateway names a generator by the service's model and a run by the service's option; the model
    counts, so that both are one workload. A revision ("name@0123abcd") is another model of the
    lineage, and "name (local)" is how a gateway tells a local model from a service of its name.
    """
    asked = config.get("baseline", {}).get("service") or {}
    lineage = local.removesuffix(" (local)").partition("@")[0]
    task = config.get("task", {}).get("name", "")
    return Workload(task, str(asked.get("model") or service), lineage)


def look(root: Path, workload: Workload, run: str, evidence: dict[str, Any]) -> int:
    """Record this look unless it has been taken before; its number, from 1.

    One write, on disk before its number is told: of two at a time one comes after the other.
    """
    key = fingerprint(evidence)
    earlier = _unnamed(root, workload)
    if key in earlier:
        return earlier.index(key) + 1
    file = file_of(root, workload)
    file.parent.mkdir(parents=True, exist_ok=True)
    if key not in _order(file):
        when = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"look": key, "workload": workload._asdict(), "run": run, "when": when}
        line = dumps(about | {"evidence": evidence}) + "\n"
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return len(earlier) + _order(file).index(key) + 1


def file_of(root: Path, workload: Workload) -> Path:
    """The ledger of a workload, whatever run is looked at."""
    return root / "looks" / f"{fingerprint(workload._asdict())}.jsonl"


def _order(file: Path) -> list[str]:
    """The looks in the order in which they were taken, each once."""
    return list(dict.fromkeys(line["look"] for line in whole_lines(file)))


def _unnamed(root: Path, workload: Workload) -> list[str]:
    """The looks of lines without a workload that were, or may have been, at this one."""
    found = [
        (line["when"], line["look"])
        for file in sorted((root / "looks").glob("*.jsonl"))
        for line in whole_lines(file)
        if "workload" not in line
        and _seen(root, line["evidence"].get("stages", {})) in (workload, None)
    ]
    return list(dict.fromkeys(key for _, key in sorted(found)))


def _seen(root: Path, stages: Mapping[str, str]) -> Workload | None:
    """The workload that these evaluations are of; None where they are gone."""
    try:
        names, frozen = dict[str, str](), dict[str, Any]()
        for role, path in stages.items():
            summary = json.loads((root / path / "out/summary.json").read_text(encoding="utf-8"))
            names[role.partition(".")[0]] = summary["generator"]
            frozen = json.loads((root / path / "config.json").read_text(encoding="utf-8"))
        return workload_of(frozen["config"], names["evaluation"], names["baseline"])
    except (OSError, ValueError, KeyError):
        return None
