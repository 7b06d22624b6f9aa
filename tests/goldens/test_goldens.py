"""Fingerprints, journal keys and pages are what version 90baa9b made of the same configs."""

from pathlib import Path
from typing import Any

import pytest

from support import golden_parts as parts


def cases(name: str) -> list[Any]:
    """One case per config; more than 4 cells are slow, and so are drawn ones after the fifth."""
    found = []
    for number, made in enumerate(parts.stored(name)):
        title = " ".join(made["overrides"])
        is_long = made["cells"] > 4 or (name == "random_fingerprints" and number >= 5)
        found.append(pytest.param(made, id=title, marks=[pytest.mark.slow] if is_long else []))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("made", cases("fingerprints"))
def test_every_stage_of_an_experiment_or_a_sweep_has_its_fingerprint(made: dict[str, Any]) -> None:
    assert parts.fingerprints(made["overrides"]) == made


@pytest.mark.parametrize("made", cases("random_fingerprints"))
def test_every_stage_of_a_drawn_config_has_its_fingerprint(made: dict[str, Any]) -> None:
    assert parts.fingerprints(made["overrides"]) == made


def test_every_experiment_and_sweep_is_among_them() -> None:
    conf = parts.HERE.parents[1] / "conf"
    words = {word for made in parts.stored("fingerprints") for word in made["overrides"]}
    for group in ("experiment", "sweep"):
        for path in (conf / group).rglob("*.yaml"):
            name = path.relative_to(conf / group).with_suffix("").as_posix()
            if not name.startswith(parts.WITHOUT):
                assert f"{group}={name}" in words


@pytest.mark.slow
def test_a_reply_is_filed_under_the_same_key() -> None:
    assert parts.journal_keys() == parts.stored("journal_keys")


@pytest.mark.slow
def test_a_plan_and_the_pages_of_a_run_are_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made, wanted = parts.pages(tmp_path), parts.stored("pages")
    for name in wanted["plan"]:
        assert made["plan"][name] == wanted["plan"][name]
    assert not (tmp_path / "empty").exists()  # a plan touches nothing
    assert made["page"]["words"] == wanted["page"]["words"]  # which shows what differs
    assert made == wanted
