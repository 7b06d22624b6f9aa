"""The decision: three words, what each needs, and how often it is wrong over many looks."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from support.evaluations import verdict
from understudy.evaluation import decision, looks, relations
from understudy.evaluation.decision import Decision, Pairs, decide, pair
from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics import intervals


def pairs(differences: Any, worst: Any = None, noise: float | None = None) -> dict[Any, Pairs]:
    panel = {f"p{i}": float(d) for i, d in enumerate(differences)}
    ends = panel if worst is None else panel | {f"w{i}": float(d) for i, d in enumerate(worst)}
    missing = len(ends) - len(panel)
    of = Pairs(panel, {"j": panel}, ends, noise, 10.0, missing, missing)
    return dict.fromkeys(METRICS, of)


def decided(differences: Any, worst: Any = None, noise: Any = None, **how: Any) -> Decision:
    of = pairs(differences, worst, noise)
    return decide(of, {prompt: prompt for prompt in of["precision"].worst}, **how)


def spread(mean: float, sd: float, n: int) -> Any:
    """Symmetric values with exactly this mean and sample SD."""
    quantiles = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return mean + sd * quantiles / quantiles.std(ddof=1)


def test_a_local_model_that_is_as_good_migrates() -> None:
    found = decided(spread(-0.5, 15, 100))
    assert found.decision == "MIGRATE"
    low = -0.5 - 1.5 * stats.t.ppf(0.95, 99)
    assert found.difference.low == pytest.approx(low, abs=0.1)
    assert found.reason == "local - service is -0.50 points, at least -3.01 > -5."
    assert (found.more_prompts, found.verdicts_per_answer) == (None, None)


def test_a_local_model_that_is_worse_than_the_margin_is_not_ready() -> None:
    found = decided(spread(-12, 15, 100))
    assert found.decision == "NOT YET"
    assert "at most -9." in found.reason


def test_means_that_say_yes_and_a_lower_limit_that_says_no_are_inconclusive() -> None:
    found = decided(spread(-3.5, 15, 100))
    assert found.decision == "INCONCLUSIVE"
    z = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert found.more_prompts == math.ceil((z * 15 / 1.5) ** 2) - 100


def test_the_prompts_that_it_asks_for_do_decide_about_as_often_as_they_should() -> None:
    more = decided(spread(-2.5, 15, 100)).more_prompts
    assert more is not None
    rng = np.random.default_rng(0)
    loops = rng.normal(-2.5, 15, size=(2000, 100 + more))
    low, _, _ = intervals.limits(loops, np.ones_like(loops), 0.05, 999)
    assert (low > -5).mean() == pytest.approx(0.8, abs=0.04)


def test_an_estimate_on_the_margin_asks_for_no_number_of_prompts() -> None:
    assert decided(spread(-5.0, 15, 100)).more_prompts is None


def test_more_verdicts_help_as_far_as_the_judges_noise_goes() -> None:
    # SE^2 = 2.25 of which 1.5 is noise of M = 10; z SE' must be 2.5, so SE'^2 = 1.0109.
    found = decided(spread(-2.5, 15, 100), noise=1.5)
    assert found.decision == "INCONCLUSIVE"
    room = (2.5 / (stats.norm.ppf(0.95) + stats.norm.ppf(0.8))) ** 2 - 0.75
    assert found.verdicts_per_answer == math.ceil(15 / room)
    assert decided(spread(-2.5, 15, 100), noise=0.5).verdicts_per_answer is None


def test_below_50_prompts_it_cannot_say_migrate_and_asks_for_the_rest() -> None:
    found = decided(spread(2, 1, 49))
    assert found.decision == "INCONCLUSIVE"
    assert "49 prompts are below 50" in found.reason
    assert found.more_prompts == 1
    assert decided(spread(2, 1, 50)).decision == "MIGRATE"
    assert decided(spread(-20, 1, 20)).decision == "NOT YET"


def test_missing_scores_that_could_turn_it_stop_a_migration() -> None:
    fine, doubtful = [0.0] * 2, [-90.0] * 9
    assert decided(spread(0, 10, 100), fine).decision == "MIGRATE"
    found = decided(spread(0, 10, 100), doubtful)
    assert (found.decision, found.missing) == ("INCONCLUSIVE", 9)
    assert "the 9 missing scores (of 9 prompts)" in found.reason


def test_a_lower_level_asks_for_more() -> None:
    differences = spread(-2.3, 15, 100)  # lower limits -4.79 and -5.27
    found = [decided(differences, level=level) for level in (None, 0.05, 0.025)]
    assert [one.level for one in found] == [0.05, 0.05, 0.025]
    assert [one.decision for one in found] == ["MIGRATE", "MIGRATE", "INCONCLUSIVE"]


def test_nothing_to_compare_is_inconclusive_and_has_no_numbers() -> None:
    assert decided([]).reason == "No prompt has a score of both sides."
    one = decide(pairs([1.0, 2.0]), {"p0": "g", "p1": "g"})
    assert one.reason == "All prompts are one cluster, so there is no interval."


def test_a_judge_that_finds_the_contrary_is_named() -> None:
    good, bad = ({f"p{i}": d for i, d in enumerate(spread(m, 5, 60))} for m in (10, -12))
    panel = {prompt: (good[prompt] + bad[prompt]) / 2 for prompt in good}
    both = dict.fromkeys(METRICS, Pairs(panel, {"kind": good, "stern": bad}, panel, None, 1.0))
    found = decide(both, {prompt: prompt for prompt in panel})
    assert found.decision == "MIGRATE"
    assert [one.split(" by itself")[0] for one in found.warnings] == ["stern"]


def test_judges_of_the_teachers_or_the_services_family_are_named() -> None:
    judges = {"gpt": "openai", "claude": "anthropic", "mystery": "unknown"}
    found = relations.family_warnings(judges, ("sonnet", "anthropic"), ("gpt_4o", "openai"))
    assert [one.split(":")[0] for one in found] == [
        "judge gpt is of the family openai, as is the service gpt_4o",
        "judge claude is of the family anthropic, as is the teacher sonnet",
    ]
    assert relations.family_warnings(judges, None, ("x", "unknown")) == []


def test_pairs_are_means_over_samples_repeats_and_judges() -> None:
    local = {
        "a": [verdict("p", 0, 0, 80), verdict("p", 0, 1, 90), verdict("p", 1, 0, 65)],
        "b": [verdict("p", 0, 0, 60), verdict("p", 1, 0, 60)],
    }
    service = {"a": [verdict("p", 0, 0, 80)], "b": [verdict("p", 0, 0, 70)]}
    found = pair(local, service, ["p"], "precision")
    assert found.judges == {"a": {"p": -5.0}, "b": {"p": -10.0}}
    assert found.panel == found.worst == {"p": -7.5}


def test_a_prompt_that_one_side_lacks_is_left_out_and_the_worst_is_said() -> None:
    local = {"a": [verdict("p", 0, 0, 80), verdict("q", 0, 0, None), verdict("r", 0, 0, 50)]}
    service = {"a": [verdict("p", 0, 0, 80), verdict("q", 0, 0, 90), verdict("r", 0, 0, None)]}
    found = pair(local, service, ["p", "q", "r", "s"], "precision")
    assert found.panel == {"p": 0.0}
    assert found.worst == {"p": 0.0, "q": -90.0, "r": -50.0, "s": -100.0}


def test_the_noise_is_what_repeats_would_shrink() -> None:
    rng = np.random.default_rng(5)
    prompts, k, m = [f"p{i}" for i in range(300)], 2, 4

    def panel() -> dict[str, Any]:
        return {
            judge: [
                verdict(p, sample, repeat, float(50 + 6 * rng.normal()))
                for p in prompts
                for sample in range(k)
                for repeat in range(m)
            ]
            for judge in "ab"
        }

    found = pair(panel(), panel(), prompts, "precision")
    # Two sides, 36 / (k m) each, halved by two judges, over 300 prompts.
    assert found.noise == pytest.approx(2 * 36 / (k * m) / 2 / 300, rel=0.05)
    assert found.repeats == m
    once = {"a": [verdict("p", 0, 0, 5)]}
    assert pair(once, once, ["p"], "precision").noise is None


SD, MARGIN, ROUNDS, CORRELATION = 15.0, 5.0, 10, 0.5


def rounds(rng: Any, loops: int, prompts: int, mean: float) -> Any:
    """Paired differences (loops, rounds, prompts): few large losses, rounds correlate 0.5.

    Minus an exponential (skewness -2), moved and scaled to `mean` and SD.
    """
    shared = rng.standard_normal((loops, 1, prompts), dtype=np.float32)
    own = rng.standard_normal((loops, ROUNDS, prompts), dtype=np.float32)
    latent = math.sqrt(CORRELATION) * shared + math.sqrt(1 - CORRELATION) * own
    return mean + SD * (1 + special.log_ndtr(latent))


def migrates(differences: Any, level: float) -> Any:
    ones = np.ones(differences.shape[-1])
    low = intervals.limits(differences.astype(float), ones, level, decision.DRAWS)[0]
    return low > -MARGIN


def screens(differences: Any) -> Any:
    """Whether the lower t limit on the test split is above the margin, at 5 %."""
    prompts = differences.shape[-1]
    error = differences.std(-1, ddof=1) / math.sqrt(prompts)
    return differences.mean(-1) - stats.t.ppf(0.95, prompts - 1) * error > -MARGIN


def simulate(mean: float, prompts: int, loops: int) -> dict[str, float]:
    """Shares of loops that end in MIGRATE, by rule."""
    rng = np.random.default_rng(11)
    counts = dict.fromkeys(("a single look", "one look", "looks at every pass", "naive"), 0)
    chunk = 500
    for _ in range(loops // chunk):
        test, holdout = (rounds(rng, chunk, prompts, mean) for _ in range(2))
        passed = screens(test)  # (chunk, rounds)
        counts["naive"] += passed.any(1).sum()
        counts["a single look"] += migrates(holdout[:, 0], 0.05).sum()
        # The first round that passes is looked at, the last one where none does: always one look.
        first = np.where(passed.any(1), passed.argmax(1), ROUNDS - 1)
        counts["one look"] += migrates(holdout[np.arange(chunk), first], 0.05).sum()
        # After a no there is another look at each later pass, at what is left of alpha.
        number = passed.cumsum(1)
        migrated = np.zeros(chunk, bool)
        for at in range(1, ROUNDS + 1):
            loop, step = np.nonzero(passed & (number == at) & ~migrated[:, None])
            migrated[loop] = migrates(holdout[loop, step], looks.level(0.05, at))
        counts["looks at every pass"] += migrated.sum()
    return {rule: count / loops for rule, count in counts.items()}


@pytest.mark.soak
def test_ten_rounds_at_the_boundary_end_in_migrate_no_more_often_than_one_test() -> None:
    wrong, power = simulate(-MARGIN, 200, 20_000), simulate(-2.0, 200, 2000)
    print(f"\nn=200 SD={SD} margin={MARGIN} correlation={CORRELATION} skewness=-2 rounds={ROUNDS}")
    for rule in wrong:
        print(f"{rule:<20} at the boundary {wrong[rule]:.4f}  at -2 points {power[rule]:.4f}")
    assert wrong["one look"] <= 0.053
    assert wrong["looks at every pass"] <= 0.053
    assert wrong["naive"] > 0.2
    assert power["one look"] >= power["a single look"] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [50, pytest.param(100, marks=pytest.mark.soak)])
def test_on_fewer_prompts_skewness_costs_less_than_a_point_of_level(prompts: int) -> None:
    rng, loops = np.random.default_rng(12), 20_000
    wrong = bare = 0
    for _ in range(loops // 500):
        losses = -MARGIN + SD * (1 - rng.standard_exponential((500, prompts)))
        wrong += migrates(losses, 0.05).sum()
        bare += screens(losses).sum()
    print(f"\nn={prompts}: false MIGRATE {wrong / loops:.4f}, by t alone {bare / loops:.4f}")
    assert wrong / loops < 0.06 < bare / loops
