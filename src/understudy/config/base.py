"""What an option file need not state: defaults stand in `conf/` and are filled in from there.

Hydra starts from `conf/_base.yaml` too, so that the command line knows these leaves. Filling in
serves what Hydra cannot reach: services, your own options of the groups that have one file only,
and configs that an earlier version froze.
"""

from functools import cache
from typing import Any

import yaml

from understudy import locations

_ONE_FILE = ("export", "gateway", "serve", "watch")  # every leaf may be left out


@cache
def base(name: str) -> dict[str, Any]:
    """Return the values of `conf/NAME.yaml`; they belong to all callers, so change none."""
    text = (locations.shared("conf") / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """Return composed or frozen values with the defaults of whatever they leave out."""
    full: dict[str, Any] = _filled(
        values, base("_base") | {group: base(f"{group}/default") for group in _ONE_FILE}
    )
    for role in ("synthesis", "baseline", "gateway"):
        if isinstance(full.get(role), dict) and "service" in full[role]:
            full[role] = full[role] | {"service": complete_service(full[role]["service"])}
    if isinstance(gateway := full.get("gateway"), dict) and isinstance(
        several := gateway.get("services"), dict
    ):
        services = {name: complete_service(service) for name, service in several.items()}
        full["gateway"] = gateway | {"services": services}
    if isinstance(judges := full.get("judges"), dict):
        full["judges"] = {name: complete_service(service) for name, service in judges.items()}
    return full


def complete_service(values: Any) -> Any:
    """Return the values of a service with the defaults of whatever they leave out."""
    full = _filled(values, base("service/_limits"))
    if isinstance(full, dict) and isinstance(full.get("bias"), dict):
        full = _filled(full, base("service/_unbiased"))
    return full


def _filled(values: Any, defaults: Any) -> Any:
    if not (isinstance(values, dict) and isinstance(defaults, dict)):
        return values
    missing = {key: value for key, value in defaults.items() if key not in values}
    return {key: _filled(value, defaults.get(key)) for key, value in values.items()} | missing
