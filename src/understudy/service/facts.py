"""What is checked and said of a run's services before its first call."""

import os

from understudy.config import Config, Service
from understudy.errors import BadInput


def notices(config: Config) -> list[str]:
    """What to tell the user once; raises BadInput where a key is not set."""
    services = {service.name: service for service in config.services}
    for service in services.values():
        _check_key(service)
    if config.rehearsal.url is not None:
        return [f"rehearsal: {config.rehearsal.url} plays every service; nothing is paid"]
    return [
        f"service {service.name}: terms on training with its output: {service.terms}"
        for service in services.values()
        if service.terms is not None
    ]


def _check_key(service: Service) -> None:
    if service.key_env is None or service.rehearsal or os.environ.get(service.key_env):
        return
    raise BadInput(
        f"service {service.name} needs its key in the environment variable {service.key_env}; "
        "to try everything without a key, start the command with `understudy rehearse`"
    )
