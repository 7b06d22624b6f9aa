"""Limits that hold over judges like these, of whom a panel is a random sample.

The error of the panel's mean has two parts: of the prompts, whose limit is known, and of the
judges, SE_J = s / sqrt(J) of their J means. Each part has a reach at the level of the limit, and

    reach^2 = reach_prompts^2 + (t_{J-1} SE_J)^2

(the square-and-add method for sums of estimates: Howe 1974, J. Am. Stat. Assoc. 69:789; Zou and
Donner 2008, Stat. Med. 27:1693). A t for the sum with Satterthwaite's degrees of freedom is too
short where few judges happen to agree: s is then small, and so is the share that its one degree of
freedom has. The judges' means hold noise of the prompts, too, so this errs on the wide side.
"""

import math

import numpy as np

from understudy.evaluation.statistics.intervals import Floats


def widened(reach: Floats, means: Floats, tail: float) -> Floats:
    """(...,): the reach of a limit over prompts, widened by the means of the judges (..., J)."""
    from scipy.special import stdtrit

    count = means.shape[-1]
    assert count >= 2, "one judge is no sample"
    of_judges = -stdtrit(count - 1, tail) * means.std(-1, ddof=1) / math.sqrt(count)
    found: Floats = np.hypot(reach, of_judges)
    return found
