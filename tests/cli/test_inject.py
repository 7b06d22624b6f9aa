"""`understudy inject` from the command line."""

import argparse
import json

import pytest

from understudy.cli import inject
from understudy.errors import BadInput


def run(*words: str) -> None:
    parser = argparse.ArgumentParser()
    inject.register(parser.add_subparsers())
    arguments = parser.parse_args(["inject", *words])
    arguments.verb(arguments)


@pytest.mark.slow
def test_the_shifts_are_printed_as_a_table_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("judge=offline_strict", "evaluation.m=1", "--answers", "2")
    run(*settings)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["judge", "kind", "answers"]
    assert len(lines) == 2 + 11 + 1
    assert lines[-1].startswith("rehearsal")
    run(*settings, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["rehearsal"] is True
    (total,) = (shift for shift in found["shifts"] if shift["kind"] == "all")
    assert total["injected"] == 200
    (line,) = (line.split() for line in lines if line.split()[1] == "all")
    assert line[4] == f"{total['similarity']['mean']:+.1f}"
    run(*settings, "--each")
    assert len(capsys.readouterr().out.splitlines()) == 2 + 100 + 1


def test_a_single_answer_is_refused() -> None:
    with pytest.raises(BadInput, match="--answers=1 is too few"):
        run("--answers", "1")
