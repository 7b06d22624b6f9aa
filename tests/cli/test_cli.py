"""The command line as a user meets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from understudy import __version__
from understudy.cli.main import main, parser
from understudy.errors import from_system
from understudy.records import Coverage, read_rows

WRONG = {
    "trainer.lr=abc": ["trainer.lr=abc", "number"],
    "model=gemma": ["model=gemma", "tiny"],
    "task=": ["task=", "classification, closed_qa, coding, summarization"],
    "nosuch=1": ["nosuch", "groups are", "trainer"],
    "trianer=lora": ["trianer", "did you mean trainer?"],
    "trainer.lrr=1": ["trainer.lrr", "did you mean trainer.lr?"],
    "trainer.lerning_rate=1": ["trainer.lerning_rate", "choose from", "trainer.lr,"],
    "judges.nobody.skill=1": ["nobody"],
    "nonsense": ["nonsense", "key=value"],
    "task=[a": ["task=[a"],
    "judge=[offline,offline_strict]": ["is not an option", "offline_panel"],
    "judge=offline,nosuch": ["judge=nosuch", "offline_strict"],
    "model=glob(zz*)": ["model=glob(zz*)", "matches none of"],
    "seed=interval(0,1)": ["seed=interval(0,1)", "range() or choice()"],
    "sweep=jugdes": ["sweep=jugdes", "did you mean judges?"],
    "sweep=judges,tasks": ["sweep=[judges,tasks]"],
    "sweep=[judges,tsaks]": ["sweep=tsaks", "did you mean tasks?"],
}


@pytest.mark.parametrize("override", WRONG)
def test_bad_input_gets_one_sentence_and_exit_code_2(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", override]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert all(word in shown.err for word in WRONG[override]), shown.err


def test_a_model_that_is_not_there_is_refused_before_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"model.path={tmp_path}/nosuch", f"paths.root={tmp_path}/runs"]) == 2
    assert f"{tmp_path}/nosuch does not exist" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("DONE"))


def test_a_file_gone_from_a_finished_stage_is_named_with_the_remedy(tmp_path: Path) -> None:
    stage = tmp_path / "split" / "0123456789abcdef"
    (stage / "out").mkdir(parents=True)
    with pytest.raises(FileNotFoundError) as lost:
        list(read_rows(stage / "out" / "rows.jsonl", Coverage))
    assert "gone" not in str(from_system(lost.value, tmp_path))  # a stage under way has none yet
    (stage / "DONE").touch()
    said = str(from_system(lost.value, tmp_path))
    assert said.startswith(f"{stage}/out/rows.jsonl is gone from a finished stage; remove {stage} ")


def test_options_lists_the_groups_and_the_options_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["options"]) == 0
    assert "task         classification · closed_qa" in capsys.readouterr().out
    assert main(["options", "judge"]) == 0
    assert "judge=offline_panel" in capsys.readouterr().out
    assert main(["options", "service"]) == 0
    assert "service=_limits" not in capsys.readouterr().out  # what others build on is no option
    assert main(["config", "+service@judges.mine=_limits"]) == 2
    assert "service=_limits is not an option" in capsys.readouterr().err
    assert main(["options", "juge"]) == 2
    assert "did you mean judge?" in capsys.readouterr().err


def test_config_shows_each_value_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "seed=3", "task=coding"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "seed: 3  # command line" in lines
    assert "task.name: 'coding'  # conf/task/coding.yaml" in lines


def test_only_run_takes_several_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "task=coding,closed_qa"]) == 2
    assert "task=coding,closed_qa has several values" in capsys.readouterr().err


def test_version_and_help_need_no_heavy_import() -> None:
    code = (
        "import sys\nfrom understudy.cli.main import main\n"
        "try:\n main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'hydra', 'pydantic', 'numpy', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    shown = subprocess.run(
        [sys.executable, "-m", "understudy", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == f"understudy {__version__}"


def test_config_composes_without_torch() -> None:
    code = (
        "import sys\nfrom understudy.cli.main import main\nassert main(['config']) == 0\n"
        "assert not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


ANY_ORDER = [
    "run --config-dir {own} seed=2",
    "config --config-dir={own} seed=2",
    "explain --config-dir {own} seed=2",
    "serve --port 0 serve.queue=3 some-run --host 127.0.0.1",
    "export --force some-run export.what=adapter --to {own} export.dtype=auto",
    "status --root {own} some-run",
    "run data_size=1 --config-dir {own} seed=2",
    "config seed=2 --config-dir {own} task=coding",
    "plan seed=2 --json data_size=1 --config-dir {own} task=coding",
    "preview --calls 2 seed=2 --json task=coding",
    "inject --json seed=2 --each task=coding",
    "gateway --config-dir {own} gateway.port=0 --root {own} gateway.mode=record",
    "decide --margin 2.5 some-run --root {own}",
    "route --budget 2.5 one --out {own} two",
]


@pytest.mark.parametrize("line", ANY_ORDER)
def test_options_and_overrides_stand_in_any_order(line: str, tmp_path: Path) -> None:
    words = line.format(own=tmp_path).split()
    found = parser().parse_args(words)
    taken = [str(value) for value in vars(found).values() if not isinstance(value, list)]
    taken += [word for value in vars(found).values() if isinstance(value, list) for word in value]
    for word in words[1:]:
        if not word.startswith("-"):
            assert word in taken, word


OF_HYDRA = {
    "--cfg job": "understudy config",
    "--info defaults": "understudy options",
    "-cn other": "experiment=",
    "--config-name=other": "experiment=",
    "-cd {own}": "--config-dir DIR",
    "--config-path {own}": "--config-dir DIR",
    "--resolve": "understudy config",
    "--hydra-help": "understudy options",
}


@pytest.mark.parametrize("verb", ["run", "config", "plan"])
@pytest.mark.parametrize("typed", OF_HYDRA)
def test_an_option_of_hydra_s_is_answered_with_ours(
    verb: str, typed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, "seed=1", *typed.format(own=tmp_path).split()]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert OF_HYDRA[typed] in told
