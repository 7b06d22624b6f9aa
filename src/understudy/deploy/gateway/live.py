"""The control in force: the file is looked at four times a second, and taken over when it is whole.

A file that cannot be meant changes nothing; the page and `/health` say what is wrong with it.
"""

from pathlib import Path

from understudy.config_gateway import Gateway
from understudy.config_service import Service
from understudy.deploy.gateway import control
from understudy.deploy.gateway.choice import Router, Who
from understudy.deploy.gateway.control import Control
from understudy.errors import BadInput

LOOK_S = 0.25


class Live:
    """The control of a running gateway, and the router that goes with it."""

    def __init__(self, path: Path, config: Gateway, service: Service) -> None:
        self._path, self._service = path, service
        found = control.read(path)
        self.is_first = found is None
        if found is None:
            found = control.first(config)
            control.write(path, found)
        self.control: Control = found
        self.router = _router(found, service)
        self.problem: str | None = None
        self._seen = self._signature()

    def look(self) -> bool:
        """Take over what has changed; whether anything has."""
        if (seen := self._signature()) == self._seen:
            return False
        self._seen = seen
        try:
            found = control.read(self._path)
            if found is None:
                raise BadInput(f"{self._path} is gone; `understudy gateway set` makes it anew")
            self.router = _router(found, self._service)
        except BadInput as error:
            self.problem = str(error)
            return False
        self.control, self.problem = found, None
        return True

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _router(control: Control, service: Service) -> Router | None:
    """The trained router, saying which of the two should answer a text."""
    if control.mode != "route" or control.router is None:
        return None
    from understudy.routing import artifact

    try:
        loaded = artifact.load(Path(control.router))
    except (LookupError, TypeError) as error:
        raise BadInput(f"router={control.router} is none of ours: {error!r}") from None
    ours = {service.name, service.model}
    if not ours & set(loaded.llms):
        raise BadInput(
            f"router={control.router} chooses among {', '.join(loaded.llms)}: none is the service "
            f"{service.name} ({service.model})"
        )

    def choose(text: str) -> Who:
        return "service" if loaded.choose(text) in ours else "local"

    return choose
