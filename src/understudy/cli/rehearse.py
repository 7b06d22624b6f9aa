"""The verb `rehearse`: a loopback server that plays every paid service, alone or around a verb."""

import argparse
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from understudy.errors import BadInput, EnvironmentFailed
from understudy.rehearsal import options

if TYPE_CHECKING:
    from understudy.cli.words import VerbParser
    from understudy.config import Prices
    from understudy.rehearsal.bill import Bill
    from understudy.rehearsal.server import RehearsalServer

_HELP = "play every paid service on this machine: understudy rehearse -- run KEY=VALUE…"
_DETAIL = "Alone it serves until Ctrl-C; no key is needed, nothing is paid."
_VERBS = ("run", "plan", "preview", "config", "gateway")
Totals = tuple[int, int, int, int]  # calls, micro-dollars, uncertain calls, at most their money


def register(verbs: Any) -> None:
    """Add `rehearse` to the verbs."""
    sub = verbs.add_parser("rehearse", help=_HELP, description=f"{_HELP}. {_DETAIL}")
    sub.set_defaults(verb=_rehearse, verbs=verbs.choices)
    options.add_to(sub)
    sub.add_argument(
        "command", nargs="*", metavar="-- VERB", help=f"{', '.join(_VERBS)} and their arguments"
    )


def _rehearse(arguments: argparse.Namespace) -> int:
    try:
        from understudy.rehearsal.server import RehearsalServer
    except ModuleNotFoundError as error:
        raise EnvironmentFailed(
            f"rehearse needs a package that is not installed ({error.name}); "
            "pip install 'understudy[services]'"
        ) from None
    settings = options.settings(arguments)
    if not arguments.command:
        with RehearsalServer(**settings) as server:
            _serve(server)
        return 0
    command = _read(arguments.command, arguments.verbs)
    with RehearsalServer(**settings, prices=command.prices) as server:
        return _perform(command, arguments.verbs, server)


def _serve(server: "RehearsalServer") -> None:
    """Until Ctrl-C."""
    try:
        print(server.url, flush=True)
        print(f"give commands rehearsal.url={server.url}; Ctrl-C ends it", file=sys.stderr)
        threading.Event().wait()
    except KeyboardInterrupt:
        print(f"\n{_bill(server.bill())}", file=sys.stderr)


class _Command(NamedTuple):
    words: list[str]
    prices: "dict[str, Prices]"  # by model
    ledger: Callable[[], Totals]  # what has been written down so far


def _read(words: list[str], verbs: "dict[str, VerbParser]") -> _Command:
    """What a command asks for; BadInput when it is no verb that asks services."""
    from understudy.pipeline import run
    from understudy.sweep.cells import configs_of

    if words[0] not in _VERBS:
        raise BadInput(f"rehearse cannot do {words[0]}; choose from {', '.join(_VERBS)}")
    known = verbs[words[0]].parse_args(words[1:])
    if words[0] == "gateway":
        return _of_gateway(words, known)
    # as if a rehearsal server were there already
    given = [*known.overrides, "rehearsal.url=http://127.0.0.1"]
    configs, _ = configs_of(given, known.config_dir)
    services = [service for config in configs for service in config.services]
    return _Command(
        words,
        {service.model: service.prices for service in services if service.prices is not None},
        partial(_ledger, run.run_root(configs[0]) / "journal"),
    )


def _of_gateway(words: list[str], known: argparse.Namespace) -> _Command:
    """A gateway that starts, before a stand-in for its service."""
    from understudy.cli import gateway

    if known.words and "=" not in known.words[0]:
        raise BadInput(
            f"rehearse cannot do gateway {known.words[0]}; type it without `rehearse`: it speaks "
            "to the gateway that runs"
        )
    config = gateway.composed(known.words, known)
    first, others = config.gateway.service, config.gateway.services.values()
    services = [*others, *([first] if first is not None else [])]
    prices = {service.model: service.prices for service in services if service.prices}
    directory = gateway.directory_of(config, is_rehearsal=True)
    return _Command(words, prices, partial(_booked, directory / "requests"))


def _perform(command: _Command, verbs: "dict[str, VerbParser]", server: "RehearsalServer") -> int:
    """Run the verb against the server, and print what both sides have written down."""
    before = command.ledger()
    verb, *words = command.words
    arguments = verbs[verb].parse_args([f"rehearsal.url={server.url}", *words])
    try:
        return int(arguments.verb(arguments) or 0)
    finally:  # what stopped it is said after this, with the command that was typed
        _compare(server.bill(), command.ledger(), before)


def _compare(bill: "Bill", after: Totals, before: Totals) -> None:
    """Print the bill, and what the ledger has added to what it held before."""
    spent = [now - then for now, then in zip(after, before, strict=True)]
    calls, microusd, uncertain_calls, uncertain_microusd = spent
    print(_bill(bill), file=sys.stderr)
    words = [f"the ledger: {calls} calls, {_dollars(microusd)}"]
    if uncertain_calls:
        words.append(f"{uncertain_calls} uncertain, {_dollars(uncertain_microusd)} at most")
    if not uncertain_calls:
        words.append("equal" if microusd == bill.microusd else "which differs")
    print("; ".join(words), file=sys.stderr)


def _bill(bill: "Bill") -> str:
    played = ", ".join(f"{kind} {count}" for kind, count in bill.faults.most_common())
    text = f"the bill:   {len(bill.log)} calls, {_dollars(bill.microusd)}"
    return f"{text}; faults played: {played}" if played else text


def _booked(directory: Path) -> Totals:
    """What the logs of a gateway hold."""
    from understudy.records import read_objects

    exact, bounds = list[int](), list[int]()
    for path in directory.glob("*.jsonl"):
        for line in read_objects(path):
            if amount := int(line.get("microusd") or 0):
                (bounds if line.get("is_bound") else exact).append(amount)
    return len(exact), sum(exact), len(bounds), sum(bounds)


def _ledger(directory: Path) -> Totals:
    """What a journal holds."""
    from understudy.services.journal import open_journal

    if not directory.is_dir():
        return 0, 0, 0, 0
    with open_journal(directory) as journal:
        totals = journal.totals()
    return (
        sum(total.calls for total in totals),
        sum(total.microusd for total in totals),
        sum(total.uncertain_calls for total in totals),
        sum(total.uncertain_microusd for total in totals),
    )


def _dollars(microusd: int) -> str:
    return f"${microusd / 1_000_000:.6f}"
