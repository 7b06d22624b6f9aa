"""Numbers that are not known yet: the one expected, between the least and the most."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Range:
    """All three are equal where the number is known exactly."""

    low: float
    expected: float
    high: float

    def __post_init__(self) -> None:
        assert self.low <= self.expected <= self.high, f"{self} is out of order"

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: "Range | float") -> "Range":
        """The product of two ranges of numbers from 0."""
        by = other if isinstance(other, Range) else exactly(other)
        return Range(self.low * by.low, self.expected * by.expected, self.high * by.high)

    def or_nothing(self) -> "Range":
        """Return the same of what may not be needed at all."""
        return Range(0, self.expected, self.high)

    def at_least(self, other: "Range") -> "Range":
        """Return the larger of two, end by end."""
        return Range(
            max(self.low, other.low),
            max(self.expected, other.expected),
            max(self.high, other.high),
        )

    def at_most(self, limit: float) -> "Range":
        """Cut off at a limit."""
        return Range(min(self.low, limit), min(self.expected, limit), min(self.high, limit))

    @classmethod
    def around(cls, expected: float, factor: float) -> Self:
        """Return a guess that is right within a factor."""
        return cls(expected / factor, expected, expected * factor)


def exactly(value: float) -> Range:
    """Return a number that is known."""
    return Range(value, value, value)


NOTHING = exactly(0)


def total(ranges: Iterable[Range]) -> Range:
    """Return the sum."""
    return sum(ranges, NOTHING)
