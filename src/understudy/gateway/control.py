"""What may change while the gateway runs, in one small file that is replaced whole.

`control.json` holds mode, share, router and the local models; the last of them is in use and the
one before is what `rollback` goes back to. A request keeps the control that it began under, so a
change drops nothing.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from understudy.config import schema
from understudy.config.gateway import MODES, Gateway, Mode, Percent
from understudy.config.source import STRICT
from understudy.errors import BadInput
from understudy.store.artifacts import fingerprint, write_atomically

_KEPT = 10  # local models that are remembered
KEYS = ("mode", "share", "local", "local_model", "router")
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


def first(config: Gateway) -> Control:
    """The control of a first start."""
    locals_ = () if config.local is None else (Local(config.local, config.local_model),)
    return _checked(Control(config.mode, config.share, locals_, config.router))


def read(path: Path) -> Control | None:
    """What the file says, None where there is none; BadInput when it cannot be meant."""
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
    """What tells one state of the file from the next; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def changed(control: Control, given: dict[str, str]) -> Control:
    """The control after `set KEY=VALUE…`; BadInput names a wrong key or value."""
    for key in given:
        if key not in KEYS:
            raise BadInput(f"{key} cannot be set{schema.suggest(key, list(KEYS))}")
    values: dict[str, Any] = {}
    if "mode" in given:
        if given["mode"] not in MODES:
            raise BadInput(f"mode={given['mode']} is no mode; choose from {', '.join(MODES)}")
        values["mode"] = given["mode"]
    if "share" in given:
        values["share"] = _percent(given["share"])
    if "router" in given:
        values["router"] = given["router"] or None
    if "local" in given or "local_model" in given:
        url = given.get("local") or (control.local.url if control.local else "")
        model = given.get("local_model") or None
        if (named := Local(url, model)) != control.local:  # or a rollback would go to itself
            values["locals"] = (*control.locals, named)[-_KEPT:]
    return _checked(replace(control, **values))


def rolled_back(control: Control) -> Control:
    """The control with the local model before this one; mode and share stay."""
    if len(control.locals) < 2:
        raise BadInput("there is no earlier local model to go back to; `set local=URL` names one")
    return _checked(replace(control, locals=control.locals[:-1]))


def _percent(text: str) -> float:
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise BadInput(f"share={text} is no percentage; give 0 to 100")
    return share


def _checked(control: Control) -> Control:
    """Whether the parts agree."""
    local = control.local
    if local is None and control.mode != "record":
        raise BadInput(f"mode={control.mode} needs a local model: give local=http://127.0.0.1:…/v1")
    if local is not None and not local.url.startswith(("http://", "https://")):
        raise BadInput(f"local={local.url} is no address; e.g. http://127.0.0.1:8000/v1")
    if control.mode == "route" and control.router is None:
        raise BadInput("mode=route needs router=DIR, the folder that `understudy route` wrote")
    if control.router is not None and not (Path(control.router) / "router.json").is_file():
        raise BadInput(f"router={control.router} holds no router.json")
    return control
