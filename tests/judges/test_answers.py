"""The six measured answers on real judges: committed whole, and said with their own numbers."""

import json
import re

from support.house import ROOT

FOLDER = ROOT / "experiments" / "judges"
FOUND = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_answer_has_its_command_its_figure_and_its_numbers() -> None:
    assert list(FOUND) == ["repeats", "replaced", "experts", "heaping", "reasons", "position"]
    for name in FOUND:
        assert f"`{name}`" in PAGE
        assert f"]({name}.png)" in PAGE
        assert (FOLDER / f"{name}.png").stat().st_size > 10_000


def test_the_page_tells_the_numbers_that_were_measured() -> None:
    said = " ".join(PAGE.split())
    for one in FOUND["repeats"]["differences"]:
        if (
            one["ties"] == "shared"
            and one["pair"] == "claude-haiku-4-5 × 8 − claude-sonnet-4-6 × 1"
        ):
            low, high = 100 * one["low"], 100 * one["high"]
            assert f"+{100 * one['mean']:.1f} points [{low:.1f}, {high:.1f}]" in said
    for one in FOUND["replaced"]["moves"]:
        mean, low, high = one["shift_percent"]
        assert f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−") in said
    for one in FOUND["position"]["judges"]:
        assert f"{100 * one['same'][0]:.0f} %" in said
    assert not re.search(r"\b[A-Z]{7,}\b", PAGE), "a placeholder is left"


def test_the_page_shows_both_groupings_of_shared_ids() -> None:
    said = {line.split("|")[1].strip(): line for line in PAGE.splitlines() if "|" in line}
    for one in FOUND["repeats"]["groupings"]:
        mean, low, high = (f"{one[name]:.3f}"[1:] for name in ("mean", "low", "high"))
        assert f"{mean} [{low}, {high}]" in said[one["judge"]]
    first = {one["by"]: one for one in FOUND["repeats"]["groupings"] if one["judge"] == "gpt-5.4"}
    # of the 40 ids it was asked these in both subsets
    assert first["subset + id"]["items"] - first["id"]["items"] == 38
