"""What may change while the gateway runs, in one small file that is replaced whole.

`control.json` holds mode, share, router and the local models; the last of them is in use and the
one before is what `rollback` goes back to. The file is looked at four times a second; one that
cannot be meant changes nothing, and the page and `/health` say what is wrong with it. A request
keeps the control that it began under, so a change drops nothing.
"""

import hashlib
import json
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from understudy.config import schema
from understudy.config.gateway import MODES, GatewayConfig, Mode, Percent
from understudy.config.service import Service
from understudy.config.source import STRICT
from understudy.errors import BadInput
from understudy.gateway.calls import ChatCall, conversation
from understudy.store.artifacts import fingerprint, write_atomically

Who = Literal["service", "local"]
Router = Callable[[str], Who]

LOOK_S = 0.25  # between two looks at the file
_KEPT = 10  # local models that are remembered
_KEYS = ("mode", "share", "local", "local_model", "router")
_STRICT = STRICT | {"frozen": True}


@dataclass(config=_STRICT)
class Local:
    """A local model and where it is served."""

    url: str
    model: str | None = None  # null = the first that its server lists


@dataclass(config=_STRICT)
class Control:
    """Who answers what, from now on."""

    mode: Mode
    share: Percent = 0.0
    locals: tuple[Local, ...] = ()  # the oldest first
    router: str | None = None

    @property
    def local(self) -> Local | None:
        """The local model in use."""
        return self.locals[-1] if self.locals else None

    @property
    def digest(self) -> str:
        """Short name of exactly this control."""
        return fingerprint(_ADAPTER.dump_python(self, mode="json"))


_ADAPTER: TypeAdapter[Control] = TypeAdapter(Control)


def first(config: GatewayConfig) -> Control:
    """Return the control of a first start."""
    locals_ = () if config.local is None else (Local(config.local, config.local_model),)
    return _checked(Control(config.mode, config.share, locals_, config.router))


def read(path: Path) -> Control | None:
    """Return what the file says, None where there is none; BadInput when it cannot be meant."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return _checked(_ADAPTER.validate_python(values))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        known = ["mode", "share", "locals", "locals.*.url", "locals.*.model", "router"]
        raise BadInput(f"{path}: {schema.sentence(error, values, known)}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None


def write(path: Path, control: Control) -> None:
    """Replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _ADAPTER.dump_json(control, indent=1).decode() + "\n")


def signature(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one state of the file from the next; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def changed(control: Control, given: dict[str, str]) -> Control:
    """Return the control after `set KEY=VALUE…`; BadInput names a wrong key or value."""
    for key in given:
        if key not in _KEYS:
            raise BadInput(f"{key} cannot be set{schema.suggest(key, list(_KEYS))}")
    values: dict[str, Any] = {}
    if "mode" in given:
        if given["mode"] not in MODES:
            raise BadInput(f"mode={given['mode']} is no mode; choose from {', '.join(MODES)}")
        values["mode"] = given["mode"]
    if "share" in given:
        try:
            share = float(given["share"].removesuffix("%"))
        except ValueError:
            share = -1.0
        if not 0 <= share <= 100:
            raise BadInput(f"share={given['share']} is no percentage; give 0 to 100")
        values["share"] = share
    if "router" in given:
        values["router"] = given["router"] or None
    if "local" in given or "local_model" in given:
        url = given.get("local") or (control.local.url if control.local else "")
        model = given.get("local_model") or None
        if (named := Local(url, model)) != control.local:  # or a rollback would go to itself
            values["locals"] = (*control.locals, named)[-_KEPT:]
    return _checked(replace(control, **values))


def rolled_back(control: Control) -> Control:
    """Return the control with the local model before this one; mode and share stay."""
    if len(control.locals) < 2:
        raise BadInput("there is no earlier local model to go back to; `set local=URL` names one")
    return _checked(replace(control, locals=control.locals[:-1]))


def taking(control: Control, config: GatewayConfig, given: Container[str]) -> Control:
    """Return the control with what a command line has `given`; BadInput for what cannot be."""
    values: dict[str, Any] = {
        name: getattr(config, name) for name in ("mode", "share", "router") if name in given
    }
    if "local" in given or "local_model" in given:
        was = control.local
        url = config.local if "local" in given else was.url if was is not None else None
        named = None if url is None else Local(url, config.local_model)
        if named is None:
            values["locals"] = ()
        elif named != was:
            values["locals"] = (*control.locals, named)[-_KEPT:]
    return _checked(replace(control, **values))


def differences(now: Control, before: Control) -> list[str]:
    """Return what differs, each as one sentence with both values."""
    found = []
    for name in _KEYS:
        values = [
            (control.local.url if control.local else None)
            if name == "local"
            else (control.local.model if control.local else None)
            if name == "local_model"
            else getattr(control, name)
            for control in (now, before)
        ]
        if values[0] != values[1]:
            found.append(f"{name}={values[0]} counts, as given; before it was {name}={values[1]}")
    return found


def _checked(control: Control) -> Control:
    """Return a control whose parts agree; BadInput says what does not."""
    local = control.local
    if local is None and control.mode != "record":
        raise BadInput(f"mode={control.mode} needs a local model: give local=http://127.0.0.1:…/v1")
    if local is not None and not local.url.startswith(("http://", "https://")):
        raise BadInput(f"local={local.url} is no address; e.g. http://127.0.0.1:8000/v1")
    if control.mode == "route" and control.router is None:
        raise BadInput("mode=route needs router=DIR, the folder that `understudy route` wrote")
    if control.router is not None:
        places = (Path(control.router), Path(control.router) / "router")  # as `route` prints it
        folder = next((place for place in places if (place / "router.json").is_file()), None)
        if folder is None:
            raise BadInput(f"router={control.router} holds no router.json")
        return replace(control, router=str(folder))
    return control


class Live:
    """The control of a running gateway, and the router that goes with it.

    What a start is `given` counts; the rest is as the file says that the last start has left.
    Nothing is written before `keep`, so a start that fails leaves all as it was.
    """

    def __init__(
        self, path: Path, config: GatewayConfig, service: Service, given: Container[str] = ()
    ) -> None:
        self._path, self._service = path, service
        self.seen = signature(path)  # before it is read: what comes later is not missed
        before = read(path)
        self.is_first = before is None
        self.control = first(config) if before is None else taking(before, config, given)
        self.differences = [] if before is None else differences(self.control, before)
        self.router = _router(self.control, service)
        self._is_kept = self.control == before
        self.problem: str | None = None

    def keep(self) -> None:
        """Write down what this start has changed."""
        if not self._is_kept:
            self.put(self.control, self.router)
            self._is_kept = True

    def look(self) -> tuple[Control, Router | None] | None:
        """Return what has been changed in the file; it counts from `take`."""
        if (seen := signature(self._path)) == self.seen:
            return None
        self.seen, self.problem = seen, None
        try:
            return self._read()
        except BadInput as error:
            self.problem = str(error)
        except Exception as error:  # whatever it is, the next change must still be seen
            self.problem = f"{self._path} cannot be taken over: {error!r}"
        return None

    def take(self, control: Control, router: Router | None) -> None:
        """Let a control count from now on."""
        self.control, self.router = control, router

    def put(self, control: Control, router: Router | None) -> None:
        """Let a control count from now on, and write it down."""
        write(self._path, control)
        self.seen = signature(self._path)
        self.take(control, router)

    def _read(self) -> tuple[Control, Router | None]:
        found = read(self._path)
        if found is None:
            raise BadInput(f"{self._path} is gone; start the gateway again")
        return found, _router(found, self._service)


def _router(control: Control, service: Service) -> Router | None:
    """Return the trained router, which says who of the two should answer a text."""
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
    return lambda text: "service" if loaded.choose(text) in ours else "local"


class Choice(NamedTuple):
    """The order in which to ask: the next one answers when the one before cannot."""

    order: tuple[Who, ...]
    place: float  # of the conversation among all, evenly from 0 to 100


def choose(
    control: Control, call: ChatCall, router: Router | None, key: bytes | None = None
) -> Choice:
    """Return whom to ask; what the mode does not let answer is never asked, whatever fails.

    A conversation keeps its side while the share stays, and a growing share moves none back;
    `key` is what stays the same through it, where more is known of that than the call tells.
    """
    digest = hashlib.blake2b(conversation(call) if key is None else key, digest_size=8).digest()
    place = int.from_bytes(digest) / 2**64 * 100
    match control.mode:
        case "record" | "shadow":
            return Choice(("service",), place)
        case "local":
            return Choice(("local",), place)
        case "failover":
            return Choice(("service", "local"), place)
        case "split":
            side: Who = "local" if place < control.share else "service"
        case "route":
            assert router is not None, "a control with mode=route comes with its router"
            side = router("\n".join(map(_text, call.body["messages"])))
    return Choice((side, "service" if side == "local" else "local"), place)


def _text(turn: Any) -> str:
    """Return the text of a turn, for the router; what is no text is left out."""
    content = turn.get("content") if isinstance(turn, dict) else None
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))
