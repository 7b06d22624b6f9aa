"""What the figures draw: the curve through the sizes and the density on a scale that ends."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support import judged_runs
from support.analysis import module

SIZES = np.array([0.0, 250.0, 1000.0, 4000.0, 16000.0])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("runs")
    judged_runs.write(root, [0, 250, 1000], prompts=6)
    return module("sources").load(["big"], root)


def curve(values: Any, spread: float = 1.0, statistic: str = "mean") -> Any:
    """A curve through these values whose draws all move up and down together."""
    scaling = module("scaling")
    shift = np.random.default_rng(0).normal(0, spread, (scaling.DRAWS, 1))
    drawn = np.clip(values + shift, 0, 100)
    head = ("coding", "tiny", "offline", "offline", "precision", statistic)
    nothing = [float("nan")] * len(SIZES)
    return scaling.Curve(*head, SIZES, nothing, values, values - 1, values + 1, drawn)


def test_the_fit_finds_the_curve_that_made_the_points() -> None:
    found = module("scaling").fit(curve(92 - 40 / (1 + SIZES / 700)))
    assert found.doubling == 32000
    assert found.expected[0] == pytest.approx(92 - 40 / (1 + 32000 / 700), abs=0.2)


def test_the_chance_falls_as_the_bar_rises_past_what_is_expected() -> None:
    found = module("scaling").fit(curve(92 - 40 / (1 + SIZES / 700)))
    assert found.chance(80) == 1
    assert found.chance(91.1) == pytest.approx(0.5, abs=0.1)
    assert found.chance(97) < 0.01


def test_the_scatter_of_the_points_widens_what_is_expected_next() -> None:
    smooth = 92 - 40 / (1 + SIZES / 700)
    rough = smooth + np.array([0, 4, -4, 4, -4])
    widths = [
        ends[2] - ends[1]
        for ends in (module("scaling").fit(curve(values)).expected for values in (smooth, rough))
    ]
    assert widths[1] > 2 * widths[0]


def test_the_fit_never_leaves_the_scale_and_never_falls() -> None:
    falling = np.array([95.0, 90.0, 85.0, 80.0, 75.0])
    found = module("scaling").fit(curve(falling))
    assert np.ptp(found.centre) == pytest.approx(0, abs=1e-9)
    top = module("scaling").fit(curve(np.array([60.0, 90.0, 99.0, 100.0, 100.0])))
    assert top.expected[2] <= 100
    assert top.high.max() <= 100


def test_few_sizes_and_shares_have_no_curve() -> None:
    whole = curve(92 - 40 / (1 + SIZES / 700))
    few = whole._replace(
        sizes=SIZES[:3], values=whole.values[:3], low=whole.low[:3], high=whole.high[:3],
        drawn=whole.drawn[:, :3],
    )  # fmt: skip
    assert module("scaling").fit(few) is None
    assert module("scaling").fit(whole._replace(statistic="coverage@50")) is None


def test_no_density_leaks_off_the_scale() -> None:
    kde = module("fig_kde")
    scores = np.full(500, 100.0)
    values = kde.density(scores, scores, bandwidth=4.0)
    assert values.sum() * (100 / kde.BINS) ** 2 == pytest.approx(1)
    assert values.argmax() == values.size - 1  # the corner (100, 100)


def test_density_inside_the_scale_is_the_gaussian_kernel_estimate() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    x, y = rng.normal(50, 8, (2, 4000))
    kde = module("fig_kde")
    values = kde.density(x, y, bandwidth=4.0)
    centres = (np.arange(kde.BINS) + 0.5) * 100 / kde.BINS
    oracle = stats.gaussian_kde(np.stack([x, y]))
    oracle.covariance = np.eye(2) * 16.0
    oracle.cho_cov = np.eye(2) * 4.0
    oracle.log_det = 2 * np.log(np.diag(oracle.cho_cov * np.sqrt(2 * np.pi))).sum()
    places = [80, 100, 120]
    grid = np.array([[centres[a], centres[b]] for a in places for b in places]).T
    found = [values[a, b] for a in places for b in places]
    assert found == pytest.approx(oracle(grid), rel=0.02)


def test_contour_levels_hold_the_mass_they_say() -> None:
    rng = np.random.default_rng(2)
    kde = module("fig_kde")
    values = kde.density(*rng.normal(60, 10, (2, 2000)))
    for level, share in zip(kde.levels(values), (0.9, 0.6, 0.3), strict=True):
        assert values[values >= level].sum() / values.sum() == pytest.approx(share, abs=0.01)


def test_judges_order_colours_and_names_come_from_one_table() -> None:
    looks = module("labels").looks(["zeta", "gemini-1.5-flash", "gpt-4o"])
    assert list(looks) == ["gpt-4o", "gemini-1.5-flash", "zeta"]
    assert looks["gpt-4o"].label == "GPT-4o"
    assert len({look.colour for look in looks.values()}) == 3
    assert module("labels").canonical("claude-3-sonnet-20240229") == "claude-3-sonnet"


@pytest.mark.parametrize("corner", ["none", "high", "low"])
def test_a_stretched_axis_runs_from_0_to_100_and_gives_the_corner_room(corner: str) -> None:
    places = module("fig_kde").Axis(corner).place(np.linspace(0, 100, 101))
    assert places[[0, -1]] == pytest.approx([0, 100], abs=1e-9)
    assert (np.diff(places) > 0).all()
    room = {"none": (10, 10), "high": (None, 35), "low": (35, None)}[corner]
    for found, least in ((places[10], room[0]), (100 - places[90], room[1])):
        assert least is None or found >= least - 1e-9


def test_axes_are_stretched_where_half_of_the_answers_crowd_into_a_corner(data: Any) -> None:
    kde = module("fig_kde")
    (panels,) = kde.shown(data).values()
    assert kde._corner(panels) == "none"
    high = [
        panel._replace(evaluations=[
            replace(one, similarity=0 * one.similarity + 95, precision=0 * one.precision + 99)
            for one in panel.evaluations
        ])
        for panel in panels
    ]  # fmt: skip
    assert kde._corner(high) == "high"


def test_series_can_be_told_apart_in_grey() -> None:
    styles = [module("draw").style(n) for n in range(module("fig_scaling").MOST)]
    assert len(set(styles)) == len(styles) == 24
    assert len({(one.marker, one.dashes) for one in styles[:12]}) == 12
    shades = [module("draw").shaded("#0173b2", share)[3] for share in (0.25, 0.5, 0.75)]
    assert shades == [0.25, 0.5, 0.75]


@pytest.mark.slow
def test_every_legend_is_outside_of_the_data_and_says_what_its_bars_are(data: Any) -> None:
    scaling, kde = module("fig_scaling"), module("fig_kde")
    curves = scaling.figures(data, scaling.fitted(data), scaling.goal(data))
    drawn = [figure for *_, figure in curves] + [figure for _, figure in kde.figures(data)]
    drawn.append(module("judges")._figure(data, module("panels").reports(data, 50)))
    assert len(drawn) == 4
    for figure in drawn:
        (legend,) = figure.legends
        assert all(ax.get_legend() is None for ax in figure.axes)
        figure.draw_without_rendering()
        box = legend.get_window_extent()
        assert not any(box.overlaps(ax.get_window_extent()) for ax in figure.axes)
        assert any(
            word in legend.get_title().get_text() for word in ("bars: 95 %", "contours hold")
        )
    bars = [text.get_text() for ax in drawn[0].axes for text in ax.texts]
    assert any(text.startswith("bar ") for text in bars)
