"""The registry of providers: a folder each, named in `config.service.ProviderName`.

A folder's `__init__` holds its FACTS and imports no SDK; its other modules are imported when they
are wanted. `calls` connects to the provider; `log` reads its log files, `translation` serves the
gateway, and `rehearsal` plays the provider. A folder may lack any of the last three.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, get_args

from understudy.config import Config
from understudy.config.service import ProviderName, Service
from understudy.errors import BadInput, EnvironmentFailed
from understudy.services.base import BatchProvider, Provider, Usage

PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What is known of a provider without its SDK."""

    base_url: str | None = None  # given always, so that no SDK asks its environment variable
    rehearsal_path: str = ""  # below rehearsal.url
    efforts: tuple[str, ...] = ()  # that its protocol has; () = whatever its server takes
    takes_budget: bool = False  # whether reasoning may be a number of tokens
    has_batches: bool = False
    extra: str = ""  # of our package, with the SDK
    is_offline: bool = False  # it is a program here, without an address or a key


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, and the key that opens it."""

    base_url: str
    key: str = field(repr=False)


def part(provider: str, name: str) -> ModuleType | None:
    """The module of this name in a provider's folder; None where the folder has none."""
    module = f"{__name__}.{provider}.{name}"
    return import_module(module) if find_spec(module) else None


def parts(name: str) -> dict[str, ModuleType]:
    """The modules of this name by provider."""
    found = {provider: part(provider, name) for provider in PROVIDERS}
    return {provider: module for provider, module in found.items() if module is not None}


def part_of(service: Service, name: str) -> ModuleType | None:
    """The module of this name of a service's provider; EnvironmentFailed without its SDK."""
    try:
        return part(service.provider, name)
    except ModuleNotFoundError as error:
        raise EnvironmentFailed(
            f"service {service.name} needs a package that is not installed ({error.name}); "
            f"pip install 'understudy[{facts_of(service).extra}]'"
        ) from None


def usage_reader(service: Service) -> Callable[[dict[str, Any]], Usage | None]:
    """The function that reads the counts of tokens of a service's provider."""
    calls = part_of(service, "calls")
    assert calls is not None, f"the folder of {service.provider} has calls.py"
    read: Callable[[dict[str, Any]], Usage | None] = calls.usage_of
    return read


def facts_of(service: Service) -> ProviderFacts:
    """The facts of a service's provider."""
    facts: ProviderFacts = import_module(f"{__name__}.{service.provider}").FACTS
    return facts


def open_provider(service: Service, rehearsal_url: str | None = None) -> Provider:
    """The adapter for online calls."""
    provider: Provider = _connect(service, rehearsal_url)
    return provider


def open_batch(service: Service, rehearsal_url: str | None = None) -> BatchProvider:
    """The adapter for the batch API."""
    if not facts_of(service).has_batches:
        raise BadInput(
            f"service {service.name} has mode=batch, but no batch API; choose mode=online"
        )
    provider: BatchProvider = _connect(service, rehearsal_url)
    return provider


def _connect(service: Service, rehearsal_url: str | None) -> Any:
    facts = facts_of(service)
    if facts.is_offline:
        endpoint = None
    else:
        check_reasoning(service)
        endpoint = endpoint_of(service, rehearsal_url)
    calls = part_of(service, "calls")
    assert calls is not None, f"the folder of {service.provider} has calls.py"
    return calls.connect(service, endpoint)


def endpoint_of(service: Service, rehearsal_url: str | None = None) -> Endpoint:
    """Where the service's calls go; a rehearsal never sees a real key."""
    facts = facts_of(service)
    if service.rehearsal:
        if rehearsal_url is None:
            raise BadInput(f"service {service.name} has rehearsal=true, but no rehearsal.url")
        return Endpoint(f"{rehearsal_url.rstrip('/')}{facts.rehearsal_path}", "rehearsal")
    base_url = service.base_url or facts.base_url
    if base_url is None or not base_url.startswith(("http://", "https://")):
        raise BadInput(
            f"service {service.name} has base_url={base_url}; give the address of its server, "
            "e.g. http://127.0.0.1:8000/v1"
        )
    if service.key_env is None:
        return Endpoint(base_url, "none")  # a server of the user's own wants none, but the SDK does
    key = os.environ.get(service.key_env, "").strip()
    if not key:
        raise BadInput(
            f"service {service.name} needs its key in the environment variable {service.key_env}; "
            "to try everything without a key, start the command with `understudy rehearse --`"
        )
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"{service.key_env} holds characters that no key has; set it anew")
    return Endpoint(base_url, key)


def check_reasoning(service: Service) -> None:
    """Raise BadInput where the protocol cannot say this; not every model takes every effort."""
    wanted, facts = service.reasoning, facts_of(service)
    is_budget = isinstance(wanted, int)
    if wanted is None or (facts.takes_budget if is_budget else wanted in facts.efforts):
        return
    if not is_budget and not facts.efforts:
        return
    choices = "one of " + ", ".join(facts.efforts or ("none", "low", "medium", "high"))
    choices += ", or a number of tokens" if facts.takes_budget else ""
    raise BadInput(f"service {service.name} has reasoning={wanted}; choose {choices}")


def notices(config: Config) -> list[str]:
    """What to tell the user before the first call; BadInput for a bad key, address or effort."""
    services = {service.name: service for service in config.services}
    for service in services.values():
        if not facts_of(service).is_offline:
            endpoint_of(service, config.rehearsal.url)
            check_reasoning(service)
    if config.rehearsal.url is not None:
        return [f"rehearsal: {config.rehearsal.url} plays every service; nothing is paid"]
    return [
        f"service {service.name}: terms on training with its output: {service.terms}"
        for service in services.values()
        if service.terms is not None
    ]
