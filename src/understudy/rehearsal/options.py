"""The command-line options of the rehearsal server; light, for `understudy --help` reads it."""

import argparse
from typing import Any

_S: dict[str, Any] = {"type": float, "metavar": "S"}  # seconds
_N: dict[str, Any] = {"type": int, "metavar": "N"}
_OPTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "port": ("--port", {**_N, "default": 0}, "default: a free one"),
    "faults": (
        "--faults",
        {"default": "", "metavar": "SPEC"},
        "all=0.3, or rates (429=0.1,reset=0.02), or a sequence for each call (429,500,ok)",
    ),
    "seed": ("--seed", {**_N, "default": 0}, "of faults and latencies"),
    "latency_s": ("--latency", {**_S, "default": 0.0}, "of an answer, or its median"),
    "latency_spread": (
        "--spread",
        {"type": float, "metavar": "SD", "default": 0.0},
        "standard deviation of the log of the latency",
    ),
    "requests_per_minute": ("--rpm", _N, "requests per minute"),
    "tokens_per_minute": ("--tpm", _N, "tokens per minute"),
    "window_s": ("--window", {**_S, "default": 60.0}, "over which both limits are held"),
    "retry_after_s": ("--retry-after", {**_S, "default": 1.0}, "asked for by a played 429"),
    "drip_s": ("--drip", {**_S, "default": 0.5}, "that a slow drip takes"),
    "batch_s": ("--batch-time", {**_S, "default": 0.5}, "from a batch's submission to its end"),
    "cached": (
        "--cached",
        {"type": float, "metavar": "SHARE", "default": 0.0},
        "of every prompt that is reported as read from the cache",
    ),
    "repeatable": ("--repeatable", {"action": "store_true"}, "equal calls get equal answers"),
}  # keyword of RehearsalServer → (flag, how argparse reads it, help)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    for name, (flag, how, help_) in _OPTIONS.items():
        parser.add_argument(flag, dest=name, help=help_, **how)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keywords of RehearsalServer."""
    return {name: getattr(arguments, name) for name in _OPTIONS}
