"""The published tables: FrugalGPT's on made files, the others on the real ones."""

from pathlib import Path

import numpy as np
import pytest

from support.files import REAL, needs_real_data
from support.routing_worlds import workload, write_csv
from understudy.config.compose import Composer
from understudy.errors import BadInput
from understudy.routing import benchmarks, study
from understudy.routing.costs import Price

WIDE = (
    "query,ref_answer,gpt,gpt_cost,j1,j1_cost\n"
    "is it up?,up,Up.,0.02,down,0.001\n"
    "is it down?,down,DOWN,0.03, down ,0.002\n"
)
LONG = (
    "query,ref_answer,service_name,answer,cost\n"
    "is it up?,up,gpt,Up.,0.02\nis it up?,up,j1,down,0.001\n"
    "is it down?,down,gpt,DOWN,0.03\nis it down?,down,j1,down,0.002\n"
)


@pytest.mark.parametrize("content", [WIDE, LONG])
def test_a_released_table_of_frugalgpt_is_scored_by_match(tmp_path: Path, content: str) -> None:
    (tmp_path / "HEADLINES.csv").write_text(content)
    found = benchmarks.BENCHMARKS["headlines"](tmp_path)
    assert found.llms == ["gpt", "j1"]
    np.testing.assert_array_equal(found.success, [[1, 0], [1, 1]])
    np.testing.assert_array_equal(found.cost, [[0.02, 0.001], [0.03, 0.002]])
    assert found.text == ["is it up?", "is it down?"]


def test_a_query_that_an_llm_did_not_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "sciq.csv").write_text(LONG + "is it left?,left,gpt,left,0.02\n")
    found = benchmarks.BENCHMARKS["sciq"](tmp_path)
    assert len(found.ids) == 2
    assert found.notes == ("1 of 3 queries lack some LLM's answer and are left out",)


def test_an_absent_released_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds none of COQA\.csv"):
        benchmarks.BENCHMARKS["coqa"](tmp_path)


@pytest.mark.slow
@needs_real_data
def test_the_published_tables_have_the_published_totals() -> None:
    folder = Path(str(REAL)) / "routing"
    logpai = benchmarks.logpai(folder)
    mixtral = logpai.llms.index("Mixtral_8x7B")
    assert logpai.success.shape == (32000, 8)
    assert round(float(logpai.success[:, mixtral].mean()), 4) == 0.5911
    assert round(float(logpai.cost[:, mixtral].sum()) * 0.98, 3) == 3.681
    assert len(set(logpai.groups["line"])) == 15482
    assert len(set(logpai.groups["system"])) == 16
    overruling = benchmarks.overruling_fasttext(folder)
    assert overruling.features is not None
    assert overruling.features.shape == (2160, 300)
    assert float(overruling.cost[:, overruling.llms.index("gpt-4")].sum()) == pytest.approx(
        19.325, abs=1e-3
    )
    assert benchmarks.routerbench(folder).success.shape == (3164, 11)


PRICES = {"a": Price(1.0, 2.0), "b": Price(0.5, 0.5, 0.001)}


def test_a_table_without_costs_is_priced_by_its_lengths(tmp_path: Path) -> None:
    (tmp_path / "routerdc_7small.csv.gz").write_text(
        "task,prompt,a,b,a|resp_chars\ngsm8k-train,12345678,1,0.3,4\ngsm8k-test,1234,0,0.5,\n"
    )
    found = benchmarks.routerdc(tmp_path, PRICES)
    np.testing.assert_array_equal(found.success, [[1, 0.3], [0, 0.5]])
    np.testing.assert_allclose(found.cost, [[4e-6, 0.001 + 1e-6], [1e-6, 0.001 + 0.5e-6]])
    assert found.groups["system"] == ["gsm8k", "gsm8k"]
    assert found.notes == (
        "2 answers of unknown length are priced at nothing, their prompts alone cost",
    )
    with pytest.raises(BadInput, match="has no column c; its columns are task, prompt, a, b"):
        benchmarks.routerdc(tmp_path, {"c": Price(1, 1)})
    with pytest.raises(BadInput, match=r"has no costs: give routing\.prices"):
        benchmarks.routerdc(tmp_path, {})


def test_a_table_of_ones_own_is_a_benchmark(tmp_path: Path) -> None:
    made = workload(12, labelled=0.5)
    found = benchmarks.table(write_csv(made, tmp_path / "own.csv"))
    assert found.success.shape == (6, 2)
    assert found.notes == ("6 of 12 queries have no labels and are left out",)
    assert len(found.groups["line"]) == 6


@pytest.mark.slow
@needs_real_data
@pytest.mark.parametrize(
    ("name", "shape", "systems", "best"),
    [
        ("routellm", (15361, 2), 58, ("gpt-4-1106", 0.8102)),
        ("routerdc", (20600, 7), 10, ("dolphin-2.9-llama3-8b", 0.4946)),
    ],
)
def test_the_tables_without_costs_are_read_whole(
    name: str, shape: tuple[int, int], systems: int, best: tuple[str, float]
) -> None:
    values = Composer(None).values([f"experiment=routing/{name}", f"routing.data={REAL}/routing"])
    found = study.build(values).load()
    assert found.success.shape == shape
    assert len(set(found.groups["system"])) == systems
    mean = found.success.mean(axis=0)
    assert (found.llms[int(mean.argmax())], round(float(mean.max()), 4)) == best
