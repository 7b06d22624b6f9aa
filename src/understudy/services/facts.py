"""What is checked and said of a run's services before its first call."""

from understudy.config import Config
from understudy.services.providers import check_reasoning, endpoint_of


def notices(config: Config) -> list[str]:
    """What to tell the user once; raises BadInput for a bad key, address or effort."""
    services = {service.name: service for service in config.services}
    for service in services.values():
        if service.provider != "offline":
            endpoint_of(service, config.rehearsal.url)
            check_reasoning(service)
    if config.rehearsal.url is not None:
        return [f"rehearsal: {config.rehearsal.url} plays every service; nothing is paid"]
    return [
        f"service {service.name}: terms on training with its output: {service.terms}"
        for service in services.values()
        if service.terms is not None
    ]
