"""Words as a person types them: paths, commas, and what is printed to be pasted."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.config import command_line
from understudy.config.compose import compose, grid
from understudy.errors import BadInput

# Names of files, as people and their tools give them; a value like `'…'`, `null` or `glob(*)` is
# the grammar's, and so is what begins with `${`.
NAMES = st.text(
    st.sampled_from("abc XYZ 019 ._-~ ()[]{}'\"\\ #$%&*+:;<=>?@^`|! éüß中😀"),
    min_size=1,
    max_size=20,
).filter(lambda name: "${" not in name and name.strip() == name and name != "???")
PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("inference.python", "~/vllm/bin/python"),
        ("coverage.path", "my tickets (1).jsonl"),
        ("coverage.path", "Übersicht [neu].jsonl"),
        ("coverage.path", "it's.jsonl"),
        ("coverage.path", "a=b#c.jsonl"),
        ("paths.root", "~/runs & more"),
    ],
)
def test_a_path_is_taken_as_it_is_typed(key: str, text: str) -> None:
    values = compose([f"{key}={text}"], None)
    group, leaf = key.split(".")
    assert values[group][leaf] == text


@pytest.mark.parametrize("typed", ["'a b.jsonl'", '"a b.jsonl"', "choice('a b.jsonl')"])
def test_a_path_may_be_written_in_hydra_s_grammar(typed: str) -> None:
    (term,) = grid([f"coverage.path={typed}"], None).terms["coverage.path"]
    assert compose([term], None)["coverage"]["path"] == "a b.jsonl"


def test_the_cells_of_a_sweep_over_paths_can_be_typed_alone() -> None:
    first, second = grid(["coverage.path='a b,c.jsonl','d.jsonl'"], None).terms["coverage.path"]
    assert compose([first], None)["coverage"]["path"] == "a b,c.jsonl"
    assert compose([second], None)["coverage"]["path"] == "d.jsonl"


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_any_file_name_is_one_value_and_is_printed_so_that_it_is_again(name: str) -> None:
    if command_line.is_hydras(name) or "," in name:
        return
    for typed in (f"coverage.path={name}", command_line.override("coverage.path", name)):
        (word,) = command_line.as_typed([typed])
        (parsed,) = PARSER.parse_overrides([word])
        assert not parsed.is_sweep_override()
        assert str(parsed.value()).replace("\\${", "${") == name
        assert shlex.split(command_line.command("run", typed)) == ["understudy", "run", typed]


def test_a_comma_in_a_path_is_no_sweep_where_that_file_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.jsonl").touch()
    found = grid(["coverage=file", "coverage.path=a,b.jsonl"], None)
    assert not found.axes
    with pytest.raises(BadInput) as caught:
        grid(["coverage.path=a,c.jsonl"], None)
    told = str(caught.value)
    assert command_line.in_shell("coverage.path='a,c.jsonl'") in told
    assert command_line.in_shell("coverage.path=choice(a,c.jsonl)") in told


@pytest.mark.parametrize(
    ("word", "one", "several"),
    [
        ("data_size=1,000", "data_size=1000", "data_size=choice(1,000)"),
        ("data_size=12,500", "data_size=12500", "data_size=choice(12,500)"),
        ("budget.usd=1,000.50", "budget.usd=1000.50", "budget.usd=choice(1,000.50)"),
        ("trainer.lr=0,001", "trainer.lr=0.001", "trainer.lr=choice(0,001)"),
        ("data_size=250,000", "data_size=250000", "data_size=choice(250,000)"),
    ],
)
def test_a_comma_in_a_number_is_refused_with_both_spellings(
    word: str, one: str, several: str
) -> None:
    with pytest.raises(BadInput) as caught:
        grid([word], None)
    told = str(caught.value)
    assert told.startswith(f"{word} ")
    assert one in told
    assert several in told


@pytest.mark.parametrize(
    "word",
    [
        "data_size=0,250,1k,4k",
        "data_size=250,500",
        "seed=0,1,2",
        "trainer.lr=1e-4,3e-4",
        "seed=1,2",
    ],
)
def test_a_list_of_numbers_stays_a_sweep(word: str) -> None:
    assert len(grid([word], None).axes) == 1
