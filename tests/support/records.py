"""What a run.json holds at least."""

from typing import Any


def record(**values: Any) -> dict[str, Any]:
    """A run of one command that has begun, changed by `values`."""
    return {
        **{"name": "demo", "command": "understudy run", "understudy": "0.1.0"},
        **{"created": "2026-11-21T08:00:00+00:00", "rehearsal": False, "config": {}},
        **{"stages": {}, "rounds": [], "holdout": None, "decision": None},
        **values,
    }
