"""The modules of analysis/, imported as the program imports them."""

from importlib import import_module
from typing import Any

from understudy.report.page import load_analysis


def module(name: str) -> Any:
    """Return `analysis.NAME`."""
    load_analysis()
    return import_module(f"understudy_analysis.{name}")
