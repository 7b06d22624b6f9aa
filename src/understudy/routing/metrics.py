"""How good a set of points is: IGD and Delta as published and normalised, hypervolume."""

import numpy as np

from understudy.routing.tables import Floats


def igd(
    front: tuple[Floats, Floats], found: tuple[Floats, Floats], is_normalised: bool = False
) -> float:
    """Inverted generational distance: mean distance from the front's points to the nearest found.

    Both are (cost, accuracy). As published, on raw USD and accuracy, so that it is nearly a
    distance in cost; normalised, both axes are shares of the front's ranges.
    """
    from scipy.spatial import KDTree

    true, others = _plane(front, found) if is_normalised else (_stack(front), _stack(found))
    return float(KDTree(others).query(true)[0].mean())


def delta(
    front: tuple[Floats, Floats], found: tuple[Floats, Floats], is_normalised: bool = False
) -> float:
    """Spread (Deb 2002): 0 is even spacing that reaches both ends of the front; NaN for one point.

    (d_f + d_l + sum |d_i - m|) / (d_f + d_l + (n - 1) m) with d_f and d_l the distances between
    the first and the last points of both lists, m the mean distance of consecutive found points
    and d_i the distance of a found point to its nearest neighbour. As published, the list is taken
    as it comes and the axes are raw; normalised, it is sorted by cost and the axes are shares.
    """
    from scipy.spatial import KDTree

    true, others = _plane(front, found) if is_normalised else (_stack(front), _stack(found))
    if len(others) < 2:
        return float("nan")
    if is_normalised:
        others = others[np.lexsort(others.T[::-1])]
    ends = np.hypot(*(true[0] - others[0])) + np.hypot(*(true[-1] - others[-1]))
    mean = np.hypot(*np.diff(others, axis=0).T).mean()
    nearest = KDTree(others).query(others, k=2)[0][:, 1]
    whole = ends + (len(others) - 1) * mean
    return float((ends + np.abs(nearest - mean).sum()) / whole) if whole else float("nan")


def hypervolume(
    front: tuple[Floats, Floats], found: tuple[Floats, Floats], is_normalised: bool = True
) -> float:
    """Area that the found points dominate within the box spanned by the ends of the front.

    In USD times accuracy, or as a share of the box; NaN for a front without area.
    """
    cost, accuracy = front
    box = (cost[-1] - cost[0]) * (accuracy[-1] - accuracy[0])
    dear, wrong = cost[-1], accuracy[0]
    order = np.argsort(found[0], kind="stable")
    spent = np.clip(found[0][order], cost[0], dear)
    right = np.maximum.accumulate(np.clip(found[1][order], wrong, accuracy[-1]))
    area = float(((np.append(spent[1:], dear) - spent) * (right - wrong)).sum())
    if not box:
        return float("nan")
    return area / float(box) if is_normalised else area


def _stack(points: tuple[Floats, Floats]) -> Floats:
    return np.stack(points, axis=1)  # (n, 2)


def _plane(front: tuple[Floats, Floats], found: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Both lists with the front's ranges as units; a range of 0 counts as 1."""
    true, others = _stack(front), _stack(found)
    low, high = true.min(axis=0), true.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return (true - low) / span, (others - low) / span
