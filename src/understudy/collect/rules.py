"""The user's rules: which exchanges were satisfactory, and of which task they are."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from understudy.data.rejects import NotWanted
from understudy.errors import BadInput
from understudy.records import written
from understudy.services.providers.log import LoggedExchange, find

OTHER = "other"  # the task of what no rule names
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    "==": lambda value, bound: value == bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}
_FALSE = {"", "0", "false", "no", "none", "null"}


class Rating(NamedTuple):
    """A number that a field must have."""

    field: str
    sign: str
    bound: float


@dataclass(frozen=True)
class Rules:
    """All of them must hold; the first task that fits counts."""

    ratings: tuple[Rating, ...] = ()
    flags: tuple[tuple[str, str | None], ...] = ()  # field, and the value it must have
    matches: tuple[re.Pattern[str], ...] = ()  # that the response must hold
    rejects: tuple[re.Pattern[str], ...] = ()  # that it must not
    models: tuple[str, ...] = ()  # patterns of the shell
    task_field: tuple[str, re.Pattern[str] | None] | None = None
    task_rules: tuple[tuple[str, re.Pattern[str]], ...] = ()  # name, and what its prompts hold
    task: str = OTHER


def check(rules: Rules, exchange: LoggedExchange) -> None:
    """Raise NotWanted with the first rule that does not hold."""
    response = written(exchange.messages[-1])
    if rules.models:
        model = exchange.model or ""
        if not any(fnmatchcase(model, pattern) for pattern in rules.models):
            raise NotWanted("a model that is not on the list" if model else "without a model name")
    for rating in rules.ratings:
        value = _number(find(exchange.facts, rating.field))
        if value is None:
            raise NotWanted(f"without a number in {rating.field}")
        if not _COMPARE[rating.sign](value, rating.bound):
            raise NotWanted(f"not {rating.field}{rating.sign}{rating.bound:g}")
    for field, wanted in rules.flags:
        value = find(exchange.facts, field)
        if not (_is_true(value) if wanted is None else wanted in _words(value)):
            raise NotWanted(f"not {field}" if wanted is None else f"not {field}={wanted}")
    if not all(pattern.search(response) for pattern in rules.matches):
        raise NotWanted("a response that does not match")
    if any(pattern.search(response) for pattern in rules.rejects):
        raise NotWanted("a response that matches what is rejected")


def task_of(rules: Rules, exchange: LoggedExchange) -> str:
    """The task by tag, else by rule, else the default one."""
    if rules.task_field is not None:
        field, pattern = rules.task_field
        for word in _words(find(exchange.facts, field)):
            if word and (pattern is None or pattern.fullmatch(word)):
                return word
    if rules.task_rules:
        prompt = "\n".join(map(written, exchange.messages[:-1]))
        for name, pattern in rules.task_rules:
            if pattern.search(prompt):
                return name
    return rules.task


def parse_rating(text: str) -> Rating:
    """FIELD>=N, with any comparison."""
    found = re.match(r"(.*?)(>=|<=|==|>|<)(.*)", text, re.DOTALL)
    field, sign, bound = (part.strip() for part in (found.groups() if found else ("", "", "")))
    try:
        number = float(bound)
    except ValueError:
        number = float("nan")
    if not field or number != number:
        raise BadInput(f"--rating {text!r}: give FIELD>=NUMBER, or with {', '.join(_COMPARE)}")
    return Rating(field, sign, number)


def parse_flag(text: str) -> tuple[str, str | None]:
    """FIELD, or FIELD=VALUE."""
    field, sign, wanted = text.partition("=")
    if not field:
        raise BadInput(f"--flag {text!r}: give FIELD or FIELD=VALUE")
    return field, wanted if sign else None


def parse_task_field(text: str) -> tuple[str, re.Pattern[str] | None]:
    """FIELD, or FIELD=REGEX of the values that are names of tasks."""
    field, sign, pattern = text.partition("=")
    if not field:
        raise BadInput(f"--task-from {text!r}: give FIELD or FIELD=REGEX")
    return field, pattern_of("--task-from", pattern) if sign else None


def parse_task_rule(text: str) -> tuple[str, re.Pattern[str]]:
    """NAME=REGEX."""
    name, _, pattern = text.partition("=")
    if not name or not pattern:
        raise BadInput(f"--task-rule {text!r}: give NAME=REGEX")
    return name, pattern_of("--task-rule", pattern)


def pattern_of(option: str, text: str) -> re.Pattern[str]:
    """A regular expression of the user's."""
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadInput(f"{option} {text!r} is no regular expression: {error}") from None


def _number(value: Any) -> float | None:
    """A number, of a list the last one; a text that is a number counts."""
    if isinstance(value, list):
        value = value[-1] if value else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float(value) if isinstance(value, bool) else None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if number != number else number


def _is_true(value: Any) -> bool:
    return value.strip().lower() not in _FALSE if isinstance(value, str) else bool(value)


def _words(value: Any) -> list[str]:
    """The values of a field, as texts."""
    values = value if isinstance(value, list) else [value]
    return [
        str(item).lower() if isinstance(item, bool) else str(item)
        for item in values
        if isinstance(item, str | int | float)
    ]
