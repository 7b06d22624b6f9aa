"""What `understudy decide` has last found of this gateway's shadows, for the page."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple


class DecidedShadow(NamedTuple):
    """A decision on shadows, and how the page says it."""

    run: str
    sentence: str


def of(directory: Path) -> DecidedShadow | None:
    """Return the newest decision of a run that has read `directory/shadow`; None where is none."""
    found = sorted((directory.parent / "run").glob("*/decision.json"), key=_time, reverse=True)
    for path in found[:20]:
        with suppress(OSError, ValueError, LookupError, TypeError):
            run = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))
            source = str(run["config"]["inference"].get("path"))
            if Path(source).absolute().parent == (directory / "shadow").absolute():
                decision = json.loads(path.read_text(encoding="utf-8"))
                return DecidedShadow(path.parent.name, _sentence(path.parent.name, decision))
    return None


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _sentence(run: str, decision: dict[str, Any]) -> str:
    found = decision["difference"]
    points = "no scores" if found["mean"] is None else f"{found['mean']:+.2f}"
    if found["low"] is not None:
        points += f" [{found['low']:+.2f}, {found['high']:+.2f}]"
    said = f"Judged by run {run}: {decision['decision']}; {decision['metric']} of the local model "
    said += f"minus the service's: {points} points of 100."
    return " ".join([said, *decision.get("arms", {}).get("lines", [])[:1]])
