"""The plan of a submission: which stages share an array, and what each array waits for."""

import random
import re
import shlex
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from support import configs
from understudy.cli.main import main
from understudy.config.cluster import ClusterConfig, Resources, Room
from understudy.sweep import arrays as arrays_module
from understudy.sweep import packs as packs_module
from understudy.sweep import slurm
from understudy.sweep.arrays import Array, Ask, Pending, Unit, arrange, without
from understudy.sweep.packs import PACKS, pack


def unit(name: str, *needs: str, stage: str = "", lane: str | None = None) -> Unit:
    stage = stage or name.rstrip("0123456789")
    upstream = tuple(map(Path, needs))
    return Unit((Path(name),), Ask(stage, "api" if lane else "cpu", (), lane), upstream)


def waits(arrays: list[Array]) -> dict[str, set[str]]:
    """Job → the jobs that Slurm makes it wait for, read as Slurm would; each by its first stage."""
    names = {f"${{job{n}}}": array for n, array in enumerate(arrays, 1)}
    found = {}
    for array in arrays:
        for index, (path, *_) in array.tasks.items():
            own = {str(names[name].tasks[index][0]) for name in array.aftercorr}
            parts = [job.rpartition("_") for job in (*array.afterok, *array.afterany)]
            found[str(path)] = own | {str(names[name].tasks[int(i)][0]) for name, _, i in parts}
    return found


def test_each_index_waits_for_its_own_upstream_stage_and_for_no_other() -> None:
    units = [unit("split0"), unit("split1"), unit("finetune0", "split0")]
    units += [unit("finetune1", "split1"), unit("gate1", "finetune1"), unit("gate0", "finetune0")]
    arrays = arrange(units, {}, 100)
    assert [(array.ask.stage, sorted(array.tasks), array.after) for array in arrays] == [
        ("split", [1, 2], ""),
        ("finetune", [1, 2], "aftercorr:${job1}"),
        ("gate", [1, 2], "aftercorr:${job2}"),
    ]
    assert waits(arrays)["gate0"] == {"finetune0"}


def test_many_users_of_one_stage_share_an_array_that_waits_for_it() -> None:
    units = [unit("subset0"), *(unit(f"finetune{seed}", "subset0") for seed in range(20))]
    arrays = arrange(units, {}, 100)
    assert [len(array.tasks) for array in arrays] == [1, 20]
    assert arrays[1].after == "afterok:${job1}_1"


def test_a_stage_that_all_wait_for_anyway_is_not_named_twice() -> None:
    units = [unit("split0"), unit("subset0", "split0"), unit("finetune0", "split0", "subset0")]
    assert arrange(units, {}, 100)[-1].after == "aftercorr:${job2}"


def test_a_shared_upstream_stage_of_another_index_is_waited_for_by_its_number() -> None:
    units = [unit("split0"), unit("split1"), unit("base0", "split1")]
    units += [unit("eval0", "split0"), unit("eval1", "split1")]
    units += [unit("gate0", "eval0", "base0"), unit("gate1", "eval1", "base0")]
    found = waits(arrange(units, {}, 100))
    assert found["gate0"] == {"eval0", "base0"}
    assert found["gate1"] == {"eval1", "base0"}


def test_queued_stages_are_waited_for_and_not_submitted_again() -> None:
    (array,) = arrange([unit("finetune0", "split0")], {Path("split0"): "77_4"}, 100)
    assert (array.ask.stage, list(array.tasks), array.after) == ("finetune", [4], "aftercorr:77")


def test_arrays_are_cut_at_what_slurm_takes() -> None:
    units = [unit(f"split{n}") for n in range(10)]
    units += [unit(f"gate{n}", f"split{n}") for n in range(10)]
    arrays = arrange(units, {}, 4)
    assert [len(array.tasks) for array in arrays] == [4, 4, 2, 4, 4, 2]
    assert max(index for array in arrays for index in array.tasks) == 4
    assert waits(arrays)["gate9"] == {"split9"}


def test_stages_of_different_endpoints_never_share_an_array() -> None:
    units = [unit("evaluation0", lane="a"), unit("evaluation1", lane="b")]
    arrays = arrange(units, {}, 100)
    assert [array.after for array in arrays] == ["", ""]


@pytest.mark.parametrize("seed", range(20))
def test_on_random_graphs_slurm_waits_for_all_that_is_needed_and_no_more(seed: int) -> None:
    rng = random.Random(seed)
    units: list[Unit] = []
    for number in range(60):
        pool = [str(c.path) for c in units]
        needs = rng.sample(pool, min(len(pool), rng.choice([0, 1, 1, 2, 3])))
        units.append(unit(f"{rng.choice('abc')}{number}", *needs))
    arrays = arrange(units, {}, rng.choice([3, 7, 100]))
    direct = waits(arrays)
    assert direct.keys() == {str(c.path) for c in units}
    order = [str(path) for array in arrays for (path,) in array.tasks.values()]
    above: dict[str, set[str]] = {}
    for path in order:  # a job is submitted after those it waits for
        above[path] = direct[path].union(*(above[up] for up in direct[path]))
    needed: dict[str, set[str]] = {}
    for each in units:
        up = set(map(str, each.needs))
        needed[str(each.path)] = up.union(*(needed[path] for path in up))
    assert above == needed


def cell(name: str, *needs: str, room: Room = "cpu", lane: str | None = None) -> Pending:
    ask = Ask(name.rstrip("0123456789."), room, (), lane)
    return Pending(Path(name), ask, tuple(map(Path, needs)))


def test_what_needs_a_lost_stage_is_lost_and_the_rest_is_not() -> None:
    cells = [cell("split0"), cell("finetune0", "split0"), cell("finetune1", "split0")]
    cells += [cell("gate0", "finetune0"), cell("gate1", "finetune1")]
    kept = without(cells, {Path("finetune0")})
    assert [str(c.path) for c in kept] == ["split0", "finetune1", "gate1"]


# --- stages that share a job ----------------------------------------------------------------------


def grid(seeds: int, lane: str | None = "teacher") -> list[Pending]:
    """Two blocks of a pool, and of each seed a model for each size, judged and decided on."""
    cells = [cell("coverage"), cell("split", "coverage"), cell("baseline", "split", **_api(lane))]
    cells += [cell("synthesis0", "split", **_api(lane))]
    cells += [cell("synthesis1", "split", "synthesis0", **_api(lane))]
    cells += [cell("subset0", "split", "synthesis0"), cell("subset1", "split", "synthesis1")]
    for n in range(seeds):
        for size in (0, 1):
            own = f"{n}.{size}"
            cells += [cell(f"finetune{own}", f"subset{size}", "split", room="gpu")]
            cells += [cell(f"inference{own}", f"finetune{own}", "split", room="gpu")]
            cells += [cell(f"evaluation{own}", f"inference{own}", "split", **_api(lane))]
            cells += [cell(f"gate{own}", f"evaluation{own}", "baseline", "split")]
    return cells


def _api(lane: str | None) -> dict[str, Any]:
    return {"room": "api", "lane": lane}


@pytest.mark.parametrize("seeds", [1, 16, 100, 400])
def test_what_no_gpu_waits_for_is_packed_into_few_jobs(seeds: int) -> None:
    cells = grid(seeds)
    units = pack(cells, ())
    assert sorted(path for u in units for path in u.stages) == sorted(c.path for c in cells)
    of_gpu = [u for u in units if u.ask.room == "gpu"]
    assert len(of_gpu) == 4 * seeds
    assert len(units) - len(of_gpu) <= 4 + 2 * min(2 * seeds, PACKS + 1)


@pytest.mark.parametrize("seeds", [1, 30])
def test_a_job_stands_behind_all_that_its_stages_read(seeds: int) -> None:
    cells = grid(seeds)
    units = pack(cells, ())
    arrays = arrange(units, {}, 1000)
    direct = waits(arrays)
    home = {path: str(u.path) for u in units for path in u.stages}
    above: dict[str, set[str]] = {}
    for array in arrays:
        for stages in array.tasks.values():
            name = str(stages[0])
            assert direct[name] <= above.keys(), "it waits for a job that is submitted later"
            above[name] = direct[name].union(*(above[up] for up in direct[name]))
    for each in cells:
        for up in each.needs:
            own, other = home[each.path], home[up]
            assert own == other or other in above[own], f"{each.path} does not wait for {up}"


@pytest.mark.parametrize("seeds", [2, 30])
def test_an_endpoint_works_first_on_what_a_gpu_waits_for(seeds: int) -> None:
    units = pack(grid(seeds), ())
    lane = [u for u in units if u.ask.lane == "teacher"]
    assert [str(u.path) for u in lane[:3]] == ["synthesis0", "synthesis1", "baseline"]
    assert Path("synthesis0") in lane[1].needs
    assert all(Path("synthesis1") in u.after for u in lane[2:])
    # What a GPU waits for is made in the job of its last input, without another turn in the queue.
    assert lane[0].stages == (Path("synthesis0"), Path("subset0"))


def test_stand_ins_need_no_turn() -> None:
    units = pack(grid(2, lane=None), ())
    assert not any(u.after for u in units)


@pytest.mark.slow
def test_few_packs_of_an_endpoint_hold_a_job_while_they_wait_for_their_turn() -> None:
    packs = [u for u in pack(grid(200), ()) if str(u.path).startswith("evaluation")]
    assert len(packs) == PACKS
    first = {pack_.path: number for number, pack_ in enumerate(packs)}
    for number, each in enumerate(packs):
        before = [first[path] for path in each.after if path in first]
        assert before == ([number - 4] if number >= 4 else [])


def test_a_pack_goes_on_whatever_becomes_of_what_it_reads() -> None:
    arrays = arrange(pack(grid(100), ()), {}, 1000)
    for array in arrays:
        is_pack = any(len(stages) > 1 for stages in array.tasks.values())
        assert not is_pack or not (array.aftercorr or array.afterok), array
    finetune, *_ = (array for array in arrays if array.ask.stage == "finetune")
    assert not finetune.afterok  # the job before it makes two stages; its own may be done


def test_models_that_can_be_trained_early_are_submitted_whole_before_others() -> None:
    units = pack(grid(50), ())
    order = {str(path): number for number, u in enumerate(units) for path in u.stages}
    assert order["gate0.0"] < order["finetune0.1"]
    assert order["finetune0.0"] < order["inference0.0"] < order["evaluation0.0"] < order["gate0.0"]


def test_the_packing_of_a_large_grid_grows_as_the_grid() -> None:
    """Counted, not timed: lines of Python that run, for 1 and 4 times the cells."""

    def lines(seeds: int) -> int:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            count += event == "line" and frame.f_code.co_filename in _PACKING
            return trace

        cells, before = grid(seeds), sys.gettrace()
        sys.settrace(trace)
        try:
            arrange(pack(cells, ()), {}, 1000)
        finally:
            sys.settrace(before)
        return count

    assert lines(200) / lines(50) < 4**1.1


_PACKING = {arrays_module.__file__, packs_module.__file__}


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


def test_stages_of_an_endpoint_run_one_at_a_time_and_others_as_throttled() -> None:
    given = {"kind": "slurm", "threads": 1, "throttle": 5, "lead_seconds": 90, "requeue": False}
    cluster = configs.cluster(**given, resubmit=False)
    tasks = {1: (Path("a"),), 2: (Path("b"),), 3: (Path("c"),), 9: (Path("d"),)}
    gpu = line(cluster, Array(Ask("finetune", "gpu", (), None), (), (), (), tasks))
    assert "--array=1-3,9%5" in gpu
    assert "--job-name=night-finetune" in gpu
    assert {"--signal=B:USR1@90", "--no-requeue", "--output=/r/50 %%/%A_%a.log"} <= set(gpu)
    ask = Ask("evaluation", "api", (), "an endpoint")
    asked = line(cluster, Array(ask, ("7",), ("8_1",), ("9_1", "9_2"), tasks))
    assert "--array=1-3,9%1" in asked
    assert "--job-name=night-evaluation" in asked
    assert "--dependency=aftercorr:7,afterok:8_1,afterany:9_1:9_2" in asked
    # Where jobs may submit, no more are queued than the throttle lets run.
    free = line(configs.cluster(**given), Array(Ask("gate", "cpu", (), None), (), (), (), tasks))
    assert "--array=1-3,9" in free


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
        folder = re.escape(f"{root}/rehearsal/slurm/sweep/") + r"sweep-[0-9a-f]{8}/"
        table, environment = words[-2:]
        assert re.fullmatch(rf"{folder}{number}\.tsv", table)
        assert re.fullmatch(rf"{folder}1\.sh", environment)
        used = [int(n) for n in re.findall(r"\$\{job(\d+)\}", text)]
        assert all(n < number for n in used), text


def jobs_in(printed: str) -> int:
    """How many jobs the lines of a dry run submit."""
    ranges = re.findall(r"--array=([0-9,-]+)", printed)
    ends = [part.partition("-") for text in ranges for part in text.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


@pytest.mark.slow
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
