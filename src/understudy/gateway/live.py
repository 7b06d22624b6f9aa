"""The control in force: the file is looked at four times a second, and taken over when it is whole.

A file that cannot be meant changes nothing; the page and `/health` say what is wrong with it.
"""

from pathlib import Path

from understudy.config.gateway import Gateway
from understudy.config.service import Service
from understudy.errors import BadInput
from understudy.gateway import control
from understudy.gateway.choice import Router, Who
from understudy.gateway.control import Control

LOOK_S = 0.25


class Live:
    """The control of a running gateway, and the router that goes with it."""

    def __init__(self, path: Path, config: Gateway, service: Service) -> None:
        self._path, self._service = path, service
        self.is_first = not path.exists()
        if self.is_first:
            found = control.first(config)
            _router(found, service)  # or what is wrong with it, before it is kept
            control.write(path, found)
        self.seen = control.signature(path)  # before it is read: what comes later is not missed
        self.control, self.router = self._read()
        self.problem: str | None = None

    def look(self) -> bool:
        """Take over what has changed; whether anything has."""
        if (seen := control.signature(self._path)) == self.seen:
            return False
        self.seen = seen
        try:
            self.control, self.router = self._read()
        except BadInput as error:
            self.problem = str(error)
        except Exception as error:  # whatever it is, the next change must still be seen
            self.problem = f"{self._path} cannot be taken over: {error!r}"
        else:
            self.problem = None
        return self.problem is None

    def _read(self) -> tuple[Control, Router | None]:
        found = control.read(self._path)
        if found is None:
            raise BadInput(f"{self._path} is gone; start the gateway again")
        return found, _router(found, self._service)


def _router(control: Control, service: Service) -> Router | None:
    """The trained router, saying which of the two should answer a text."""
    if control.mode != "route" or control.router is None:
        return None
    from understudy.routing import artifact

    try:
        loaded = artifact.load(Path(control.router))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
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
