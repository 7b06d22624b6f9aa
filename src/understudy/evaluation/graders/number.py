r"""number: the answer's final number is the reference's, within a tolerance.

The final number is the one after the last `####`, else in the last `\boxed{}`, else the last of
the text. Read are 1,234.5 and 1'234.5, the other way round with `decimal: comma`; fractions 3/4;
powers 1e5 and 2 x 10^8; signs, also the true minus; a currency before it. Numbers are exact
decimals, however long.
"""

import re
from collections import deque
from collections.abc import Sequence
from decimal import Context, Decimal, DecimalException
from functools import lru_cache
from typing import NamedTuple

from understudy.config.grader import Number
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, wrong
from understudy.playground.sandbox import Sandbox
from understudy.records import Coverage

_CONTEXT = Context(prec=50, Emax=10_000, Emin=-10_000)
_MOST = 2_000  # characters at the end of a text in which its last number is looked for
_USUAL = 200  # where it mostly is
_LONGEST = 400  # of a number
_BOXED = re.compile(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_FRAC = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_SPACES = "\u00a0\u2009\u202f"
# Digits in groups of three, or not in groups; a fraction; a power of ten.
_DIGITS = r"(?:\d{{1,3}}(?:{group}\d{{3}})+(?!\d)|\d+)(?:{point}\d+)?|{point}\d+"
_POWER = r"(?:[eE][+-]?\d+|\s?(?:[x*×]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?[+-]?\d+\}?)"


class Quantity(NamedTuple):
    """A number, and the word or sign behind it."""

    value: Decimal
    unit: str


def make(settings: Number, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""
    pattern = _pattern(settings.decimal)
    units = {name.casefold(): Decimal(repr(size)) for name, size in settings.units.items()}
    absolute, relative = Decimal(repr(settings.absolute)), Decimal(repr(settings.relative))

    @lru_cache(4096)  # for a row has several answers
    def reference(text: str) -> Quantity | None:
        return last(text, pattern)

    def rule(case: Case) -> Outcome:
        wanted = reference(case.reference)
        if wanted is None:
            return Ungraded("no_reference", "the reference has no number")
        given = last(case.answer, pattern)
        if given is None:
            return wrong("it has no number")
        try:
            # An answer without a unit is taken to be in the reference's.
            its = units.get(given.unit) or units.get(wanted.unit) or Decimal(1)
            target = _CONTEXT.multiply(wanted.value, units.get(wanted.unit) or Decimal(1))
            off = abs(_CONTEXT.subtract(_CONTEXT.multiply(given.value, its), target))
            is_near = off <= max(absolute, _CONTEXT.multiply(relative, abs(target)))
        except DecimalException:
            return wrong("its number is out of all bounds")
        if is_near:
            return RIGHT
        said = f"{given.value:.12g} {given.unit}".strip()
        return wrong(f"{said} is not {wanted.value:.12g} {wanted.unit}".strip())

    return rule


def last(text: str, pattern: re.Pattern[str]) -> Quantity | None:
    """Return the final number of a text; None where there is none."""
    if "####" in text:
        text = text.rpartition("####")[2]
    elif "\\boxed" in text and (boxed := _BOXED.findall(text)):
        text = boxed[-1]
    text = text[-_MOST:]
    if "frac" in text:
        text = _FRAC.sub(r"\1/\2", text)
    final = _final(text[-_USUAL:], pattern)
    if len(text) > _USUAL and (final is None or final.start() == 0):  # or cut through
        final = _final(text, pattern)
    if final is None or len(final[0]) > _LONGEST:
        return None
    try:
        value = _value(final)
    except DecimalException:
        return None
    unit = final["unit"] or ""
    return Quantity(value, unit.casefold()) if value.is_finite() else None


def _final(text: str, pattern: re.Pattern[str]) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _pattern(decimal: str) -> re.Pattern[str]:
    """Matches a number with what belongs to it."""
    point, group = (r"\.", rf"[,'{_SPACES}]") if decimal == "point" else (",", rf"[.'{_SPACES}]")
    digits = _DIGITS.format(point=point, group=group)
    # A minus behind a word, a digit or a bracket is a hyphen or an operator.
    return re.compile(
        rf"(?P<sign>(?<![\w.)\]])[-−+])?(?<![\w])(?P<money>[$€£¥]\s?)?(?P<whole>{digits})"
        rf"(?:/(?P<below>\d+))?(?P<power>{_POWER})?"
        rf"(?:\s?(?P<unit>[^\W\d_]+|%|°[CF]?))?"
    )


def _value(match: re.Match[str]) -> Decimal:
    text = match["whole"]
    if text.isdecimal() and match["below"] is match["power"] is None:
        return _CONTEXT.create_decimal(f"{'-' if match['sign'] in ('-', '−') else ''}{text}")
    is_comma = "[.'" in match.re.pattern
    for sign in (*_SPACES, "'", "." if is_comma else ","):
        text = text.replace(sign, "")
    value = _CONTEXT.create_decimal(text.replace(",", "."))
    if match["below"]:
        value = _CONTEXT.divide(value, _CONTEXT.create_decimal(match["below"]))
    if power := match["power"]:
        exponent = re.findall(r"[+-]?\d+", power)[-1]
        value = _CONTEXT.multiply(value, _CONTEXT.create_decimal(f"1e{exponent}"))
    return -value if match["sign"] in ("-", "−") else value
