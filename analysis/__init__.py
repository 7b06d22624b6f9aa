"""Numbers, figures and pages from finished stages: frame → compute → draw → assemble.

Reads what stages wrote, runs no model and asks no judge; `understudy.report.page` loads it.
"""

import importlib
from typing import Any

_MODULES = {
    "write_curve": "assemble",
    "write_judges": "verdicts",
    "write_report": "assemble",
    "write_sweep": "sweep_page",
    "fig_routing": "routing",
    "table_routing": "routing",
}


def __getattr__(name: str) -> Any:
    """Import late, so that `python -m analysis.table_main` does not load the module twice."""
    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
