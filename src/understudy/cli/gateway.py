"""The verb `gateway`: start it, change what it does, go back, look at it."""

import argparse
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput, EnvironmentFailed

if TYPE_CHECKING:
    from understudy.config import Config
    from understudy.gateway.control import Control

_HELP = "one OpenAI-compatible endpoint before a service and a local model"
_EXAMPLES = """modes:
  record     the service answers; requests and answers are kept, for `understudy collect`
  shadow     the service answers; the local model is asked too, for `run inference=file`
  split      share percent of the conversations go to the local model, always the same ones
  route      the router of `understudy route` picks
  failover   the service answers; when it fails or is late, the local model does
  local      the local model answers; the service is never asked

examples:
  understudy gateway gateway.service=gpt_4o
  understudy gateway set local=http://127.0.0.1:8000/v1 mode=shadow
  understudy gateway set mode=split share=20       takes over at once, drops nothing
  understudy gateway rollback                      to the local model before this one
  understudy gateway status

The gateway sends the service's key (its key_env) with every request; where the environment holds
none, the client's own goes through. What it keeps is in paths.root/gateway.
"""
_VERBS = ("set", "rollback", "status")
_WAIT_S = 5.0


def register(verbs: Any) -> None:
    """Add `gateway` to the verbs."""
    sub = verbs.add_parser(
        "gateway",
        help=_HELP,
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(verb=_gateway)
    sub.add_argument("words", nargs="*", metavar="set|rollback|status|KEY=VALUE", help="see below")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")


def _gateway(arguments: argparse.Namespace) -> int:
    verb, words = None, list(arguments.words)
    if words and "=" not in words[0]:
        verb = words.pop(0)
        if verb not in _VERBS:
            raise BadInput(f"gateway {verb} is not known; choose from {', '.join(_VERBS)}")
    given = {} if verb is None else _pairs(verb, words)
    config = composed([] if given or verb else words, arguments)
    if verb is None:
        names = (word.partition("=")[0] for word in words)
        return _serve(config, {name.removeprefix("gateway.") for name in names})
    directories = [directory_of(config, rehearsal) for rehearsal in (False, True)]
    known = [each for each in directories if (each / "control.json").is_file()]
    if not known:
        raise BadInput(f"no gateway was ever started in {directories[0]}")
    directory = next((each for each in known if _health(each) is not None), known[0])
    if verb == "status":
        return _status(directory)
    return _change(directory, given if verb == "set" else None)


def _pairs(verb: str, words: list[str]) -> dict[str, str]:
    if verb != "set":
        if words:
            raise BadInput(f"gateway {verb} takes no {words[0]}")
        return {}
    if odd := [word for word in words if "=" not in word]:
        raise BadInput(f"{odd[0]} is not of the form key=value")
    found = {key: value for key, _, value in (word.partition("=") for word in words)}
    if not found:
        raise BadInput("gateway set needs something to set, e.g. mode=split share=20")
    return found


def composed(overrides: list[str], arguments: argparse.Namespace) -> "Config":
    """The composed config."""
    from understudy import config
    from understudy.config.command_line import override
    from understudy.config.compose import compose

    told = [*overrides, *([override("paths.root", arguments.root)] if arguments.root else [])]
    return config.build(compose(told, arguments.config_dir))


def directory_of(config: "Config", is_rehearsal: bool) -> Path:
    """Where a gateway keeps what it keeps; rehearsals never mix with the rest."""
    root = Path(config.paths.root).expanduser().absolute()
    return root / "rehearsal" / "gateway" if is_rehearsal else root / "gateway"


def _serve(config: "Config", told: set[str]) -> int:
    """Start it; what is `told` by name counts more than what the last start has left."""
    from understudy.config import changed
    from understudy.models import ranks

    try:
        from understudy.gateway import server
        from understudy.gateway.state import GatewayState
        from understudy.services.providers import endpoint_of
        from understudy.services.providers.translation import translation_of
    except ModuleNotFoundError as error:
        raise EnvironmentFailed(
            f"gateway needs a package that is not installed ({error.name}); "
            "pip install 'understudy[serve,services]'"
        ) from None
    if config.gateway.service is None:
        raise BadInput("give gateway.service=NAME; `understudy options service` lists them")
    translation_of(config.gateway.service)  # or what is wrong with it
    is_rehearsal = config.rehearsal.url is not None
    places = ["service", *(f"services.{name}" for name in config.gateway.services)]
    config = changed(config, {f"gateway.{place}.rehearsal": is_rehearsal for place in places})
    settings = config.gateway
    client_key = _client_key(settings.host, settings.key_env)
    endpoint = _endpoint(config, client_key)
    others = {
        name: endpoint_of(one, config.rehearsal.url) for name, one in settings.services.items()
    }
    directory = directory_of(config, is_rehearsal)
    state = GatewayState(settings, directory, endpoint, client_key, told, others)
    with server.bound(state) as (listening, url):
        control = state.live.control
        print(f"{url}/v1: {_sentence(control)}", flush=True)
        for sentence in state.live.differences:
            print(sentence, file=sys.stderr)
        if not state.live.is_first:
            where = state.directory / "control.json"
            print(f"as {where} says; `understudy gateway set` changes it", file=sys.stderr)
        if state.spend.warning is not None:
            print(state.spend.warning, file=sys.stderr)
        if not endpoint.key:
            print("no key in the environment: the clients' own go through", file=sys.stderr)
        gc.freeze()  # what was imported is not looked through again and again
        ranks.end_like_ctrl_c()  # uvicorn hands a signal on when it has ended in good order
        with suppress(KeyboardInterrupt):
            server.server(state).run(sockets=[listening])
    return 0


def _client_key(host: str, variable: str | None) -> str | None:
    from understudy.services.callers import LOOPBACK, SHORTEST

    if variable is None:
        if host not in LOOPBACK:
            raise BadInput(
                f"gateway.host={host} is open to others: give gateway.key_env=NAME, an environment "
                "variable with the key that callers must show, or stay with 127.0.0.1"
            )
        return None
    key = os.environ.get(variable, "").strip()
    if len(key) < SHORTEST:
        raise BadInput(
            f"gateway.key_env={variable}: that variable needs a key of {SHORTEST} characters"
        )
    return key


def _endpoint(config: "Config", client_key: str | None) -> Any:
    """Where the service is; without a key in the environment, the clients' keys go through."""
    from dataclasses import replace

    from understudy.services.providers import endpoint_of
    from understudy.services.providers.translation import translation_of

    service = config.gateway.service
    assert service is not None, "it was looked for"
    variable = service.key_env
    has_key = service.rehearsal or (variable and os.environ.get(variable, "").strip())
    if not has_key and translation_of(service) is None:
        if variable is not None and client_key is not None:
            return endpoint_of(service)  # which says what is missing
        return replace(endpoint_of(replace(service, key_env=None)), key="")
    return endpoint_of(service, config.rehearsal.url)


def _change(directory: Path, given: dict[str, str] | None) -> int:
    from understudy.gateway import control

    path = directory / "control.json"
    found = control.read(path)
    assert found is not None, "it was looked for"
    made = control.rolled_back(found) if given is None else control.changed(found, given)
    control.write(path, made)
    print(_sentence(made))
    try:
        print(_taken_over(directory, made))
    except BadInput:
        control.write(path, found)  # or the next start fails on it
        raise
    return 0


def _taken_over(directory: Path, made: "Control") -> str:
    """Whether the running gateway has taken a control over, waiting for it."""
    import time

    from understudy.gateway import control

    written = list(control.signature(directory / "control.json") or ())
    until = time.monotonic() + _WAIT_S
    while (said := _health(directory)) is not None and time.monotonic() < until:
        has_looked = said["seen"] == written  # what it says of the file before is no news
        if has_looked and said["control"] == made.digest:
            return "in force"
        if has_looked and said["problem"]:
            raise BadInput(f"the gateway does not take it: {said['problem']}")
        if said["checking"]:  # the local model is asked, which has its own deadline
            until = time.monotonic() + _WAIT_S
        time.sleep(0.05)
    if said is None:
        return "no gateway runs; it counts from the next start"
    raise EnvironmentFailed("the gateway answers, but has not taken it over yet")


def _health(directory: Path) -> dict[str, Any] | None:
    """What the gateway of a directory says; None when none answers, or another is there now."""
    import json
    from urllib.error import URLError
    from urllib.request import ProxyHandler, Request, build_opener

    from understudy.gateway.server import running

    if (address := running(directory)) is None:
        return None
    key = os.environ.get(address.key_env or "", "").strip()
    asked = Request(f"{address.url}/health", headers={"authorization": f"Bearer {key}"})
    try:
        with build_opener(ProxyHandler({})).open(asked, timeout=_WAIT_S) as response:
            found: dict[str, Any] = json.load(response)
    except (URLError, OSError, ValueError):
        return None
    if address.key_env is not None and "pid" not in found:
        raise BadInput(f"the gateway at {address.url} wants its key in {address.key_env}")
    return found | {"url": address.url} if found.get("pid") == address.pid else None


def _status(directory: Path) -> int:
    from understudy.gateway import control

    found = control.read(directory / "control.json")
    assert found is not None, "it was looked for"
    said = _health(directory)
    print(_sentence(found))
    if said is None:
        print("no gateway runs")
        return 0
    print(f"{said['url']}: {said['status']}, process {said['pid']}")
    for name in said["resting"]:
        print(f"{name} has failed several times in a row")
    for note in said["notes"]:
        print(note)
    if said["problem"]:
        print(f"the control file is not in force: {said['problem']}")
    return 0


def _sentence(control: "Control") -> str:
    """What a control means."""
    share = f", {control.share:g} % to the local model" if control.mode == "split" else ""
    local = control.local
    where = f", local model {local.model or '(first listed)'} at {local.url}" if local else ""
    return f"mode {control.mode}{share}{where}"
