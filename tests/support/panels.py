"""Panels of judges made for tests: the offline judges' documented transform, vectorised."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.config import Bias
from understudy.evaluation.panel import Panel


def bend(score: Any, length: Any, noise: Any, bias: Bias) -> Any:
    """`offline_judge.bend` for arrays."""
    bent = 50 + bias.compression * (score - 50) + bias.offset
    bent = bent + bias.length * np.tanh(length) + bias.noise * noise
    return np.rint(np.clip(bent, 0, bias.ceiling))


def truths(rng: Any, clusters: int, per_cluster: int = 4) -> tuple[Any, Any]:
    """True precision (0 to 100) and relative length z of answers, alike within a cluster."""
    latent = rng.normal(size=(clusters, 1)) * 0.6 + rng.normal(size=(clusters, per_cluster)) * 0.8
    quality = np.select([latent > 0, latent > -0.6, latent > -1.2], [100.0, 75.0, 40.0], 0.0)
    length = 0.5 * rng.normal(size=quality.shape) + np.where(quality < 100, 0.4, 0.0)
    return quality.ravel(), length.ravel()


def judged(rng: Any, quality: Any, length: Any, biases: Sequence[Bias], repeats: int = 3) -> Any:
    """(A, J, M) scores of these answers."""
    noise = rng.normal(size=(len(quality), len(biases), repeats))
    scores = [
        bend(quality[:, None], length[:, None], noise[:, number], bias)
        for number, bias in enumerate(biases)
    ]
    return np.stack(scores, axis=1)


def panel(
    scores: Any,
    judges: Sequence[str] | None = None,
    per_cluster: int = 1,
    systems: Sequence[str] = ("local",),
    **changed: Any,
) -> Panel:
    """A panel of (A, J) or (A, J, M) scores; answers take turns over the systems."""
    scores = np.asarray(scores, dtype=float)
    scores = scores[:, :, None] if scores.ndim == 2 else scores
    count = len(scores)
    names = list(judges) if judges else [f"j{number}" for number in range(scores.shape[1])]
    facts: dict[str, Any] = {
        "scores": scores,
        "judges": names,
        "judge_families": names,
        "systems": list(systems),
        "system_families": list(systems),
        "system": np.arange(count) % len(systems),
        "prompt": np.arange(count) // len(systems),
        "cluster": np.arange(count) // per_cluster,
        "length": np.full(count, np.nan),
        "truth": np.full(count, np.nan),
    }
    return Panel(**(facts | changed))
