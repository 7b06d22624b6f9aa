"""Which protocol a service speaks; None where it is the client's own, and bytes go through."""

from understudy.config.service import Service
from understudy.errors import BadInput
from understudy.gateway.upstream import Wire


def wire_of(service: Service) -> Wire | None:
    """The translator to the protocol of a service."""
    if service.provider == "anthropic":
        from understudy.gateway.anthropic import Anthropic

        return Anthropic()
    if service.provider == "google":
        from understudy.gateway.google import Google

        return Google()
    if service.provider == "offline":
        raise BadInput(
            f"gateway.service={service.name} is no service on a wire; name another, or let "
            "`understudy rehearse` play one and give rehearsal.url"
        )
    return None
