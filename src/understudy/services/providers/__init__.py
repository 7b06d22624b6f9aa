"""The adapter of a service; only the chosen provider's SDK is imported."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from understudy.config import Service
from understudy.errors import BadInput, EnvironmentFailed
from understudy.services.base import BatchProvider, Provider

# Given always, so that no SDK takes another address from its own environment variable.
_MAKERS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
}
_REHEARSALS = {
    "openai": "/openai/v1",
    "openai_compatible": "/openai/v1",
    "anthropic": "/anthropic",
    "google": "/google",
}
_EFFORTS = {
    "openai": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "anthropic": ("none", "low", "medium", "high", "xhigh", "max"),
    "google": ("none", "minimal", "low", "medium", "high", "xhigh"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is, and the key that opens it."""

    base_url: str
    key: str = field(repr=False)


def open_provider(service: Service, rehearsal_url: str | None = None) -> Provider:
    """The adapter for online calls."""
    if service.provider == "offline":
        from understudy.services.providers.offline.calls import Offline

        return Offline(service)
    check_reasoning(service)
    endpoint = endpoint_of(service, rehearsal_url)
    with _extra(service):
        if service.provider == "anthropic":
            from understudy.services.providers.anthropic.calls import Anthropic

            return Anthropic(service, endpoint.base_url, endpoint.key)
        if service.provider == "google":
            from understudy.services.providers.google.calls import Google

            return Google(service, endpoint.base_url, endpoint.key)
        from understudy.services.providers.openai.calls import OpenAI

        return OpenAI(service, endpoint.base_url, endpoint.key)


def open_batch(service: Service, rehearsal_url: str | None = None) -> BatchProvider:
    """The adapter for the batch API."""
    check_reasoning(service)
    endpoint = endpoint_of(service, rehearsal_url)
    with _extra(service):
        if service.provider == "anthropic":
            from understudy.services.providers.anthropic.calls import AnthropicBatch

            return AnthropicBatch(service, endpoint.base_url, endpoint.key)
        if service.provider == "google":
            from understudy.services.providers.google.calls import GoogleBatch

            return GoogleBatch(service, endpoint.base_url, endpoint.key)
        if service.provider == "openai":
            from understudy.services.providers.openai.calls import OpenAIBatch

            return OpenAIBatch(service, endpoint.base_url, endpoint.key)
    raise BadInput(f"service {service.name} has mode=batch, but no batch API; choose mode=online")


def endpoint_of(service: Service, rehearsal_url: str | None = None) -> Endpoint:
    """Where the service's calls go; a rehearsal never sees a real key."""
    if service.rehearsal:
        if rehearsal_url is None:
            raise BadInput(f"service {service.name} has rehearsal=true, but no rehearsal.url")
        return Endpoint(f"{rehearsal_url.rstrip('/')}{_REHEARSALS[service.provider]}", "rehearsal")
    base_url = service.base_url or _MAKERS.get(service.provider)
    if base_url is None or not base_url.startswith(("http://", "https://")):
        raise BadInput(
            f"service {service.name} has base_url={base_url}; give the address of its server, "
            "e.g. http://127.0.0.1:8000/v1"
        )
    return Endpoint(base_url, _key(service))


def _key(service: Service) -> str:
    if service.key_env is None:
        return "none"  # a server of the user's own wants none, but the SDK does
    key = os.environ.get(service.key_env, "").strip()
    if not key:
        raise BadInput(
            f"service {service.name} needs its key in the environment variable {service.key_env}; "
            "to try everything without a key, start the command with `understudy rehearse --`"
        )
    if not (key.isascii() and key.isprintable()):
        raise BadInput(f"{service.key_env} holds characters that no key has; set it anew")
    return key


def check_reasoning(service: Service) -> None:
    """Whether the protocol can say this; not every model takes every effort."""
    wanted, efforts = service.reasoning, _EFFORTS.get(service.provider)
    if isinstance(wanted, int) and service.provider in ("openai", "openai_compatible"):
        choices = "one of the efforts " + ", ".join(_EFFORTS["openai"])
    elif isinstance(wanted, str) and efforts is not None and wanted not in efforts:
        choices = "one of " + ", ".join(efforts)
        choices += "" if service.provider == "openai" else ", or a number of tokens"
    else:
        return
    raise BadInput(f"service {service.name} has reasoning={wanted}; choose {choices}")


@contextmanager
def _extra(service: Service) -> Iterator[None]:
    """Say how to install an SDK that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = service.provider.removesuffix("_compatible")
        raise EnvironmentFailed(
            f"service {service.name} needs a package that is not installed ({error.name}); "
            f"pip install 'understudy[{extra}]'"
        ) from None
