"""The full judge report on 4 judges x 4,000 items with 2,000 cluster-bootstrap draws.

    OMP_NUM_THREADS=2 python tests/benchmarks/bench_panel.py

Best of three, in seconds; the wish is at most 10 on two cores. Items are the answers of four
systems to 1,000 prompts, each judged five times in both orders; every item is a cluster of its own,
which is the slowest.
"""

import time

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.reliability import report
from understudy.evaluation.statistics.intervals import cluster_draws

JUDGES, SYSTEMS, PROMPTS, REPEATS = 4, 4, 1000, 5


def panel(seed: int) -> Panel:
    """A panel of random scores with leniency, noise and 1 % missing verdicts."""
    rng = np.random.default_rng(0)
    prompt, system = (codes.ravel() for codes in np.indices((PROMPTS, SYSTEMS)))
    true = rng.normal(75, 15, PROMPTS)[prompt] + rng.normal(0, 4, SYSTEMS)[system]
    rng = np.random.default_rng(seed)
    shape = (len(prompt), JUDGES, REPEATS)
    scores = true[:, None, None] + np.linspace(-5, 5, JUDGES)[:, None] + rng.normal(0, 6, shape)
    scores = np.rint(np.clip(scores, 0, 100))
    scores[rng.random(shape) < 0.01] = np.nan
    return Panel(
        scores=scores,
        judges=[f"judge{number}" for number in range(JUDGES)],
        judge_families=["openai", "anthropic", "google", "openai"],
        systems=[f"system{number}" for number in range(SYSTEMS)],
        system_families=["openai", "meta", "google", "mistral"],
        system=system,
        prompt=prompt,
        cluster=np.arange(len(prompt)),
        length=np.tanh(rng.normal(size=len(prompt))),
        truth=np.full(len(prompt), np.nan),
    )


def main() -> None:
    """Time the report."""
    first, swapped, taken = panel(1), panel(2), []
    teachers = {"system1": "openai", "system3": "anthropic"}
    for _ in range(3):
        cluster_draws.cache_clear()
        start = time.perf_counter()
        found = report(first, swapped, teachers)
        taken.append(time.perf_counter() - start)
    print(f"judge report, {JUDGES} judges x {found['answers']:,} items: {min(taken):.2f} s")


if __name__ == "__main__":
    main()
