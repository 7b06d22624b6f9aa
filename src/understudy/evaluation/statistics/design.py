"""How many prompts does a comparison need, and what can a given number show?

    python -m understudy.evaluation.statistics.design --sd 15 --distance 2
    python -m understudy.evaluation.statistics.design --sd 15 --prompts 200 --one-sided

    n = (z_alpha + z_power)^2 sd^2 / distance^2 x design effect

`sd` is that of the difference between the systems over prompts; `distance` is the difference to be
seen or, for non-inferiority, the true difference plus the margin. The design effect is how much
clusters widen the variance of the mean: 1 + (mean cluster size - 1) x intra-cluster correlation.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Literal

Sides = Literal[1, 2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the number of prompts for a distance, or the distance for a number of prompts."""
    parser = argparse.ArgumentParser(prog="python -m understudy.evaluation.statistics.design")
    parser.add_argument("--sd", type=float, required=True, help="of the differences over prompts")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--distance", type=float, help="points to be told apart")
    asked.add_argument("--prompts", type=int, help="how many there are")
    parser.add_argument("--power", type=float, default=0.8, help="default: %(default)s")
    parser.add_argument("--alpha", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--one-sided", action="store_true", help="as in non-inferiority")
    parser.add_argument("--design-effect", type=float, default=1.0, help="default: %(default)s")
    given = parser.parse_args(arguments)
    sides: Sides = 1 if given.one_sided else 2
    if given.prompts is None:
        needed = prompts_needed(
            given.sd, given.distance, given.power, given.alpha, sides, given.design_effect
        )
        print(f"{needed:,} prompts tell {given.distance:g} points with power {given.power:g}")
    else:
        distance = detectable(
            given.sd, given.prompts, given.power, given.alpha, sides, given.design_effect
        )
        print(f"{given.prompts:,} prompts tell {distance:.2f} points with power {given.power:g}")


def prompts_needed(
    sd: float,
    distance: float,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Sides = 2,
    design_effect: float = 1.0,
) -> int:
    """The number of prompts with which `distance` is found with probability `power`."""
    assert distance > 0, f"no number of prompts shows a difference of {distance}"
    return math.ceil((_z(power, alpha, sides) * sd / distance) ** 2 * design_effect)


def detectable(
    sd: float,
    prompts: int,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Sides = 2,
    design_effect: float = 1.0,
) -> float:
    """The smallest distance that so many prompts find with probability `power`."""
    return _z(power, alpha, sides) * sd * math.sqrt(design_effect / prompts)


def power_of(
    sd: float,
    distance: float,
    prompts: int,
    alpha: float = 0.05,
    sides: Sides = 2,
    design_effect: float = 1.0,
) -> float:
    """The probability that so many prompts find `distance`; the far side of two is left out."""
    from scipy.special import ndtr

    error = sd * math.sqrt(design_effect / prompts)
    return float(ndtr(distance / error - _quantile(1 - alpha / sides)))


def smallest_loss(error: float, clusters: int, level: float, power: float = 0.8) -> float:
    """The loss in points that this standard error excludes with probability `power`.

    (t + z) SE, with t of one degree of freedom less than there are clusters, at a one-sided level.
    """
    from scipy.special import ndtri, stdtrit

    return float(-stdtrit(clusters - 1, level) + ndtri(power)) * error


def _z(power: float, alpha: float, sides: Sides) -> float:
    return _quantile(1 - alpha / sides) + _quantile(power)


def _quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


if __name__ == "__main__":
    main()
