"""What the program prints to go on with can be pasted, whatever the files and runs are called."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from support import fake_runs, files, house
from understudy.cli import cluster
from understudy.cli.main import main, parser
from understudy.config.command_line import command, override
from understudy.config.compose import compose
from understudy.pipeline import chosen
from understudy.pipeline.record import RunDecision, RunRecord, find_run
from understudy.store import locks

NASTY = (
    *("my file, 1.jsonl", "a=b.jsonl", "it's.jsonl", 'say "hi".jsonl', "größe 漢字.jsonl"),
    *("${seed}.jsonl", "\\${x}\\'y\\\\", "a[0],{b: c}(d)~#@!?*", "null", "1e5", " b "),
    *("$HOME `id`", "%20;&|<>", ":cat: [bold]x[red]", "line\nbreak\ttab", "-x, 1.jsonl", "--out"),
)
# Whole commands are tried with a few in the fast suite, and with all of them in the slow one.
_FAST = {"my file, 1.jsonl", "--out", "it's.jsonl", "\\${x}\\'y\\\\", "null", "line\nbreak\ttab"}
NAMES = [pytest.param(n, marks=[] if n in _FAST else [pytest.mark.slow]) for n in NASTY]
_LETTERS = "ab 1.,='\"\\$`{}[]()~#@!?*:;&|<>%+-\n\té漢🙂"
_PARTS = st.sampled_from([*_LETTERS, "${", "${seed}", "null", "\\'"])
texts = st.lists(_PARTS, min_size=1, max_size=9).map("".join).filter(lambda text: text != "???")


def parsed(line: str) -> SimpleNamespace:
    """A printed line's command as the shell and the real parser understand it."""
    program, *words = shlex.split(line)
    assert program == "understudy"
    return SimpleNamespace(words=words, **vars(parser().parse_args(words)))


def composed(line: str) -> dict[str, Any]:
    """What the command of a printed line composes."""
    found = parsed(line)
    return compose(found.overrides, found.config_dir)


def after(mark: str, said: str) -> str:
    """The command that stands behind a mark, which may go over several lines."""
    assert mark in said, said
    return said.partition(mark)[2]


# --- the two grammars ----------------------------------------------------------------------------


@pytest.mark.slow
@given(texts)
@example(".1")
@example("\\\n")
@settings(max_examples=100, deadline=None)
def test_a_quoted_text_comes_through_shell_and_hydra_unchanged(text: str) -> None:
    (word,) = parsed(command("config", override("coverage.path", text))).overrides
    (read,) = OverridesParser.create().parse_overrides([word])
    assert OmegaConf.create({"path": read.value()}).path == text


def test_paths_that_are_composed_are_the_paths_that_were_printed() -> None:
    leaves = ("coverage.path", "synthesis.path", "inference.path", "run.name", "tracking.project")
    for start in range(0, len(NASTY), len(leaves)):  # a composition costs more than a leaf
        texts = dict(zip(leaves, NASTY[start:], strict=False))
        values = composed(command("run", *(override(leaf, text) for leaf, text in texts.items())))
        for leaf, text in texts.items():
            group, _, name = leaf.partition(".")
            assert values[group][name] == text


def test_a_plain_path_is_printed_plainly() -> None:
    line = command("run", override("coverage.path", "logs/tickets-1.jsonl"), "seed=1")
    assert line == "understudy run coverage.path=logs/tickets-1.jsonl seed=1"


# --- the places that print -----------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    turns = ({"prompt": f"What is {n} + 1?", "response": f"{n + 1}"} for n in range(12))
    return files.write(tmp_path / "log.jsonl", turns)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_collect_prints_a_command_that_reads_its_file(
    name: str, tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    out = f"{name}.jsonl"
    rules = [] if "=" in name else [f"--task-rule={name}=is ([0-9]|10) "]
    assert main(["collect", str(log), f"--out={out}", *rules]) == 0
    whole, _, part = after("to use it: ", capsys.readouterr().out).partition(
        "\nthe rows of one task only: "
    )
    values = composed(whole.replace("NAME", "coding"))
    assert (values["coverage"]["path"], values["task"]["name"]) == (out, "coding")
    if part:
        made = composed(part.replace("NAME", "coding"))["coverage"]
        assert (made["path"], made["categories"]) == (out, {"coding": name})


@pytest.mark.slow
@given(name=texts, folder=texts.filter(lambda text: "${" not in text))
@example(name="my file, 1", folder="a=b, 'c'")
@example(name="null", folder="null")
@example(name="-x", folder="--out")
@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],  # an example takes a second: no shrinking
)
def test_init_prints_a_command_that_finds_its_options_and_the_file(
    name: str, folder: str, tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home = tmp_path_factory.mktemp("init")
    rows = [
        files.llamaduo(number) | {"category": "Chat" if number else name} for number in range(9)
    ]
    file = files.write(home / f"{name}.jsonl", rows)
    monkeypatch.chdir(home)
    assert main(["init", str(file), f"--out={folder}"]) == 0
    line = after("next: ", capsys.readouterr().out)
    assert composed(line)["coverage"]["path"] == str(file)


def test_init_prints_a_command_that_collects_a_log_whatever_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call = {"request": {"messages": files.turns("a")}, "response": {"choices": [{"message": {}}]}}
    for name in ("-x, 1.jsonl", "it's $a=b.jsonl"):
        files.write(tmp_path / name, [call])
        assert main(["init", "--", name]) == 2
        line = after("not a data set; `", capsys.readouterr().err).partition("` makes one")[0]
        assert parsed(line).logs == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_run_names_it_so_that_it_is_found(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["run", override("run.name", name), "data_size=0"]
    config = {**fake_runs.CONFIG, "inference": {"kind": "local"}}
    changed = {"config": config, "command": command(*again)}
    undecided = fake_runs.write_run(tmp_path, name, decision=None, **changed)
    assert main(["status", "--root", str(tmp_path), "--", name]) == 0
    line = after("to go on: ", capsys.readouterr().out)
    assert parsed(line).words == again
    assert composed(line)["run"]["name"] == name
    run = RunRecord.read(undecided)
    run.decision = RunDecision(True, 0, "it is good")
    found = chosen.Chosen(run, run.rounds[0], None, None)  # type: ignore[arg-type]
    line = after("nobody looked at the holdout: ", found.decision[1])
    assert find_run(tmp_path, parsed(line).run) == undecided


@pytest.mark.parametrize("name", NASTY)
def test_a_submission_says_how_to_watch_and_to_stop_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = SimpleNamespace(name=name, cluster=SimpleNamespace(resubmit=True))
    done = SimpleNamespace(arrays={}, reused=0, lost=0, left=0, planning=None)
    cluster._print_table(job, done)  # type: ignore[arg-type]
    watch, stop = after("watch: ", capsys.readouterr().out).split("; stop: ")
    assert parsed(watch).run == parsed(stop).run == name


def test_a_lock_that_nobody_can_judge_names_the_command_that_removes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tmp_path / "my stage, 1"
    stage.mkdir()
    other = {"host": "elsewhere", "boot": "?", "pid": 1, "started": 1, "slurm_job": None}
    (stage / "LOCK").write_text(json.dumps(other))
    waited = iter([False, True])
    with locks.hold(stage / "LOCK", give_up=lambda: next(waited)) as is_ours:
        assert not is_ours
    line = after("if not, ", capsys.readouterr().err)
    assert parsed(line).stage == str(stage)


# --- no other place ------------------------------------------------------------------------------


def _formatted() -> Iterator[tuple[str, str]]:
    """Place and text of every f-string of the package, `{}` for what is put into it."""
    for path in sorted(house.SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
                yield f"{path.relative_to(house.SOURCE)}:{node.lineno}", "".join(map(str, parts))


@pytest.mark.slow
def test_no_f_string_writes_a_command_of_its_own() -> None:
    verbs = "|".join(next(a for a in parser()._actions if a.choices).choices)
    own = re.compile(rf"understudy (?:{verbs}) [^`\n]*\{{\}}")
    assert [place for place, text in _formatted() if own.search(text)] == []
