"""Whom a judge is related to: what it may prefer."""

from collections.abc import Mapping


def family_warnings(
    judges: Mapping[str, str], teacher: tuple[str, str] | None, service: tuple[str, str] | None
) -> list[str]:
    """One sentence per gate judge of the family of the teacher or the service (name, family)."""
    return [
        f"judge {judge} is of the family {family}, as is the {role} {other[0]}: "
        f"it may prefer {'its own words' if role == 'service' else 'a model taught by it'}"
        for judge, family in judges.items()
        for role, other in (("teacher", teacher), ("service", service))
        if other is not None and other[1] == family != "unknown"
    ]
