"""An alarm that comes in time and not without a reason, as arrays."""

import numpy as np
import pytest

from understudy.watch.sequence import BETS, STEP, began, evidence, interval, watched

ALPHA = 0.05
FLOOR = 0.475  # local - service of -5 points, on a scale from -100 to 100


def differences(rng: np.random.Generator, mean: float, shape: tuple[int, ...], sd: float = 15.0):  # type: ignore[no-untyped-def]
    """Local - service from 0 to 1."""
    return (np.clip(rng.normal(mean, sd, shape), -100, 100) + 100) / 200


def alarms(x: np.ndarray, floor: float = FLOOR) -> np.ndarray:  # type: ignore[type-arg]
    """The number of answers with which each stream alarms; inf where none does."""
    over = evidence(x, floor) >= -np.log(ALPHA)
    return np.where(over.any(-1), over.argmax(-1) + 1.0, np.inf)


def test_evidence_is_the_sum_of_all_gamblers_written_out() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 130)
    total = 0.0
    for place in range(10_000):
        part = x[place * STEP :]
        capital = np.mean([np.prod(1 + b / (1 - 0.6) * (0.6 - part)) for b in BETS])
        total += capital / ((place + 1) * (place + 2))
    assert np.exp(evidence(x, 0.6)[-1]) == pytest.approx(total + 1 / 10_001, rel=1e-9)


def test_streams_at_the_floor_alarm_as_seldom_as_is_promised() -> None:
    rng = np.random.default_rng(1)
    for x, floor in (
        (differences(rng, -5.0, (300, 2000)), FLOOR),
        ((rng.random((300, 2000)) < 0.85).astype(float), 0.85),
    ):
        assert np.isfinite(alarms(x, floor)).mean() <= ALPHA + 0.02


def test_streams_without_change_do_not_alarm_and_a_loss_is_found_in_time() -> None:
    rng = np.random.default_rng(2)
    assert np.isinf(alarms(differences(rng, 0.0, (100, 3000)))).mean() >= 0.95
    for before in (0, 500):
        x = np.concatenate(
            [differences(rng, 0.0, (100, before)), differences(rng, -10.0, (100, 700))], -1
        )
        assert np.median(alarms(x)) - before <= 300


def test_the_moment_of_the_fall_is_told() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([differences(rng, 0.0, (600,)), differences(rng, -20.0, (200,))])
    assert abs(began(x, FLOOR) - 600) <= STEP
    found = watched(x, FLOOR, ALPHA)
    assert found.word == "ALARM"
    assert found.alarm_at is not None
    assert 600 < found.alarm_at < 750
    good = watched(np.concatenate([x, differences(rng, 0.0, (3000,))]), FLOOR, ALPHA)
    assert good.word == "ALARM"  # one that was given stays


def test_the_interval_holds_the_running_mean_at_all_times_also_where_it_drifts() -> None:
    rng = np.random.default_rng(4)
    means = np.concatenate([np.full(200, 0.9), np.linspace(0.9, 0.5, 400)])
    running = np.cumsum(means) / np.arange(1, 601)
    missed = 0
    for _ in range(40):
        found = interval((rng.random(600) < means).astype(float), ALPHA)
        missed += bool(((found.low > running) | (found.high < running)).any())
    assert missed <= 5
    assert found.high[-1] - found.low[-1] < 0.16


def test_the_interval_solves_its_equation() -> None:
    x = np.random.default_rng(7).beta(8, 2, 300)
    guess = [(0.5 + x[:n].sum()) / (n + 1) for n in range(300)]
    spread = ((x - guess) ** 2).sum()
    reach = 300 * (interval(x, ALPHA).high[-1] - x.mean())
    rates = [0.8 / 2**n for n in range(10)]
    total = np.mean([np.exp(r * reach + (np.log(1 - r) + r) * spread) for r in rates])
    assert total == pytest.approx(2 / ALPHA, rel=1e-6)


def test_what_is_unscored_must_be_at_its_worst_for_a_good_word() -> None:
    rng = np.random.default_rng(5)
    x = differences(rng, 0.0, (800,))
    assert watched(x, FLOOR, ALPHA).word == "OK"
    x[::10] = np.nan
    assert watched(x, FLOOR, ALPHA).word == "TOO EARLY"
    assert watched(np.full(5, np.nan), FLOOR, ALPHA).word == "TOO EARLY"
    assert watched(x[1:3], FLOOR, ALPHA).word == "TOO EARLY"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("sd", [15.0, 20.0, 25.0])
def test_a_thousand_streams_of_ten_thousand_answers(sd: float) -> None:
    rng = np.random.default_rng(6)
    shares = []
    for true in (0.0, -5.0):
        found = [alarms(differences(rng, true, (100, 10_000), sd)) for _ in range(10)]
        shares.append(float(np.isfinite(np.concatenate(found)).mean()))
    print(f"SD {sd:g}: alarms without a loss {shares[0]:.3f}, at the margin {shares[1]:.3f}")
    assert shares[0] <= 0.05
    assert shares[1] <= 0.065  # .05 is promised, and 1,000 streams tell .05 from .064
    for loss in (-10.0, -20.0):
        for before in (0, 500, 1000, 2000):
            good = differences(rng, 0.0, (400, before), sd)
            x = np.concatenate([good, differences(rng, loss, (400, 3000), sd)], -1)
            at = alarms(x)
            late = float(np.median(at[at > before]) - before)
            print(f"SD {sd:g}, loss of {-loss:g} after {before:,}: found with {late:.0f}")
            assert late <= 300 or (sd, before) not in ((15, 0), (15, 500), (15, 1000))
