"""Tables for the tests of routing: random ones, with and without ties, and the published ones."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from support.files import REAL

FILES = {
    "logpai": ("logpai_acc_cost.csv.gz", "_cost"),
    "overruling": ("overruling.csv", "_cost"),
    "routerbench": ("routerbench_0shot_arc_mbpp_winogrande.csv.gz", "|total_cost"),
}


def random_tables(seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and cost; every third seed is full of ties and of collinear triples."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        return rng.integers(0, 4, (n, m)) / 4, rng.integers(0, 5, (n, m)) / 8
    quality, price = rng.random(m), rng.random(m) ** 3
    return rng.random((n, m)) * quality, rng.random((n, m)) * price


@cache
def real_tables(name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """LLMs, 0/1 or graded labels, USD."""
    file, suffix = FILES[name]
    table = pd.read_csv(Path(REAL or ".") / "routing" / file)
    llms = [column for column in table if column + suffix in table]
    costs = table[[llm + suffix for llm in llms]]
    return llms, table[llms].to_numpy(float), costs.to_numpy(float)


def recount(p: np.ndarray, c: np.ndarray, assignment: np.ndarray) -> tuple[float, float]:
    rows = np.arange(len(p))
    return float(c[rows, assignment].sum()), float(p[rows, assignment].mean())
