"""The plan of a submission: which stages share an array, and what each array waits for."""

import random
import re
import shlex
from pathlib import Path

import pytest

from support import configs
from understudy.cli.main import main
from understudy.config.cluster import ClusterConfig, Resources
from understudy.sweep import slurm
from understudy.sweep.arrays import Array, Ask, Pending, arrange, sinks, without


def cell(name: str, *needs: str, stage: str = "", service: str | None = None) -> Pending:
    stage = stage or name.rstrip("0123456789")
    upstream = tuple(map(Path, needs))
    return Pending(Path(name), Ask(stage, "api" if service else "cpu", (), service), upstream)


def waits(arrays: list[Array]) -> dict[str, set[str]]:
    """Cell → the cells that Slurm makes it wait for, read as Slurm would."""
    names = {f"${{job{n}}}": array for n, array in enumerate(arrays, 1)}
    found = {}
    for array in arrays:
        for index, path in array.tasks.items():
            own = {str(names[name].tasks[index]) for name in array.aftercorr}
            parts = [job.rpartition("_") for job in array.afterok]
            found[str(path)] = own | {str(names[name].tasks[int(i)]) for name, _, i in parts}
    return found


def test_each_index_waits_for_its_own_upstream_stage_and_for_no_other() -> None:
    cells = [cell("split0"), cell("split1"), cell("finetune0", "split0")]
    cells += [cell("finetune1", "split1"), cell("gate1", "finetune1"), cell("gate0", "finetune0")]
    arrays = arrange(cells, {}, 100)
    assert [(array.ask.stage, sorted(array.tasks), array.after) for array in arrays] == [
        ("split", [1, 2], ""),
        ("finetune", [1, 2], "aftercorr:${job1}"),
        ("gate", [1, 2], "aftercorr:${job2}"),
    ]
    assert waits(arrays)["gate0"] == {"finetune0"}


def test_many_users_of_one_stage_share_an_array_that_waits_for_it() -> None:
    cells = [cell("subset0"), *(cell(f"finetune{seed}", "subset0") for seed in range(20))]
    arrays = arrange(cells, {}, 100)
    assert [len(array.tasks) for array in arrays] == [1, 20]
    assert arrays[1].after == "afterok:${job1}_1"


def test_a_stage_that_all_wait_for_anyway_is_not_named_twice() -> None:
    cells = [cell("split0"), cell("subset0", "split0"), cell("finetune0", "split0", "subset0")]
    assert arrange(cells, {}, 100)[-1].after == "aftercorr:${job2}"


def test_a_shared_upstream_stage_of_another_index_is_waited_for_by_its_number() -> None:
    cells = [cell("split0"), cell("split1"), cell("base0", "split1")]
    cells += [cell("eval0", "split0"), cell("eval1", "split1")]
    cells += [cell("gate0", "eval0", "base0"), cell("gate1", "eval1", "base0")]
    found = waits(arrange(cells, {}, 100))
    assert found["gate0"] == {"eval0", "base0"}
    assert found["gate1"] == {"eval1", "base0"}


def test_queued_stages_are_waited_for_and_not_submitted_again() -> None:
    cells = [cell("split0"), cell("finetune0", "split0")]
    (array,) = arrange(cells, {Path("split0"): "77_4"}, 100)
    assert (array.ask.stage, list(array.tasks), array.after) == ("finetune", [4], "aftercorr:77")


def test_arrays_are_cut_at_what_slurm_takes() -> None:
    cells = [cell(f"split{n}") for n in range(10)]
    cells += [cell(f"gate{n}", f"split{n}") for n in range(10)]
    arrays = arrange(cells, {}, 4)
    assert [len(array.tasks) for array in arrays] == [4, 4, 2, 4, 4, 2]
    assert max(index for array in arrays for index in array.tasks) == 4
    assert waits(arrays)["gate9"] == {"split9"}


def test_stages_of_different_services_never_share_an_array() -> None:
    cells = [cell("evaluation0", service="a"), cell("evaluation1", service="b")]
    arrays = arrange(cells, {}, 100)
    assert [array.after for array in arrays] == ["singleton", "singleton"]


@pytest.mark.parametrize("seed", range(20))
def test_on_random_graphs_slurm_waits_for_all_that_is_needed_and_no_more(seed: int) -> None:
    rng = random.Random(seed)
    cells: list[Pending] = []
    for number in range(60):
        pool = [str(c.path) for c in cells]
        needs = rng.sample(pool, min(len(pool), rng.choice([0, 1, 1, 2, 3])))
        cells.append(cell(f"{rng.choice('abc')}{number}", *needs))
    arrays = arrange(cells, {}, rng.choice([3, 7, 100]))
    direct = waits(arrays)
    assert direct.keys() == {str(c.path) for c in cells}
    order = [path for array in arrays for path in map(str, array.tasks.values())]
    above: dict[str, set[str]] = {}
    for path in order:  # a job is submitted after those it waits for
        above[path] = direct[path].union(*(above[up] for up in direct[path]))
    needed: dict[str, set[str]] = {}
    for each in cells:
        up = set(map(str, each.needs))
        needed[str(each.path)] = up.union(*(needed[path] for path in up))
    assert above == needed


def test_what_needs_a_lost_stage_is_lost_and_the_rest_is_not() -> None:
    cells = [cell("split0"), cell("finetune0", "split0"), cell("finetune1", "split0")]
    cells += [cell("gate0", "finetune0"), cell("gate1", "finetune1")]
    kept = without(cells, {Path("finetune0")})
    assert [str(c.path) for c in kept] == ["split0", "finetune1", "gate1"]
    assert sinks(kept) == [Path("gate1")]


# --- the lines of sbatch --------------------------------------------------------------------------


def line(cluster: ClusterConfig, array: Array) -> list[str]:
    tasks, logs, python = Path("/r/1.tsv"), Path("/r/50 %"), Path("/r/python")
    return slurm.stages_argv(array, cluster, "night", tasks, logs, python)


def test_an_allocation_becomes_options_and_null_asks_for_nothing() -> None:
    asked = Resources("a100", "me", None, "ib", 4, "h100", 8, 1.5, 0.75, ("--exclusive",))
    assert slurm.flags(asked, 4, 2) == (
        *("--partition=a100", "--account=me", "--constraint=ib", "--nodes=2"),
        *("--ntasks-per-node=1", "--cpus-per-task=8", "--gres=gpu:h100:4"),
        *("--mem=1536M", "--time=45", "--exclusive"),
    )
    none = configs.resources()
    assert slurm.flags(none, 0, 1) == ("--nodes=1", "--ntasks-per-node=1", "--cpus-per-task=1")


def test_stages_of_a_service_run_one_at_a_time_and_others_as_throttled() -> None:
    cluster = configs.cluster(kind="slurm", threads=1, throttle=5, lead_seconds=90, requeue=False)
    tasks = {1: Path("a"), 2: Path("b"), 3: Path("c"), 9: Path("d")}
    gpu = line(cluster, Array(Ask("finetune", "gpu", (), None), (), (), tasks))
    assert "--array=1-3,9%5" in gpu
    assert "--job-name=night-finetune" in gpu
    assert {"--signal=B:USR1@90", "--no-requeue", "--output=/r/50 %%/%A_%a.log"} <= set(gpu)
    asked = line(cluster, Array(Ask("evaluation", "api", (), "gpt_4o"), ("7",), ("8_1",), tasks))
    assert "--array=1-3,9%1" in asked
    assert "--job-name=understudy-gpt_4o" in asked
    assert "--dependency=aftercorr:7,afterok:8_1,singleton" in asked


# --- dry runs -------------------------------------------------------------------------------------

GRID = [
    "data_size=0,250,1k,2k,4k,8k,16k,32k,64k",
    "task=classification,closed_qa,coding,summarization",
    "judge=offline,offline_lenient,offline_strict",
    "seed=0,1,2,3",
]


@pytest.mark.slow
def test_a_dry_run_of_432_cells_names_144_trainings_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "with a space"
    assert main(["run", *GRID, "cluster=dry_run", f"paths.root={root}"]) == 0
    printed = capsys.readouterr().out
    assert "144 finetune, 144 inference" in printed
    assert not root.exists()
    lines = [line for line in printed.splitlines() if line.startswith("job")]
    for number, text in enumerate(lines, 1):
        assert text.startswith(f"job{number}=$(sbatch ")
        words = shlex.split(text.partition("$(")[2].removesuffix(")"))
        table = re.escape(f"{root}/rehearsal/slurm/sweep/") + rf"sweep-[0-9a-f]{{8}}/{number}\.tsv"
        assert re.fullmatch(table, words[-1])
        used = [int(n) for n in re.findall(r"\$\{job(\d+)\}", text)]
        assert all(n < number for n in used), text


def jobs_in(printed: str) -> int:
    """How many jobs the lines of a dry run submit."""
    ranges = re.findall(r"--array=([0-9,-]+)", printed)
    ends = [part.partition("-") for text in ranges for part in text.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="each of 1,260 stages is a job of its own")
def test_stages_of_seconds_share_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *GRID, "cluster=dry_run", f"paths.root={tmp_path}"]) == 0
    assert jobs_in(capsys.readouterr().out) <= 600  # 288 of them train and sample


def test_rounds_after_the_first_are_not_planned_before_it_has_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "cluster=dry_run", f"paths.root={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "1 gate" in printed
    assert "synthesis" not in printed
    # plans the next round
    assert "understudy run cluster=slurm" in printed.splitlines()[-4]
    assert "dry_run" not in printed
    assert main(["run", "cluster=dry_run", "cluster.resubmit=false", f"paths.root={tmp_path}"]) == 0
    assert "--wrap" not in capsys.readouterr().out


def test_a_hub_model_that_is_not_in_the_cache_is_named_before_anything_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    revision = "0123456789abcdef0123456789abcdef01234567"
    words = ["model.path=null", "model.repo=o/m", f"model.revision={revision}", "data_size=0"]
    command = ["run", *words, "cluster=dry_run", f"paths.root={tmp_path}/runs"]
    assert main(command) == 0
    told = capsys.readouterr().err
    assert f"hf download o/m --revision {revision}" in told
    cached = tmp_path / "models--o--m" / "snapshots" / revision / "config.json"
    cached.parent.mkdir(parents=True)
    cached.write_text("{}")
    for name in ("model.safetensors", "tokenizer.json"):
        (cached.parent / name).touch()
    assert main(command) == 0
    assert "hf download" not in capsys.readouterr().err
