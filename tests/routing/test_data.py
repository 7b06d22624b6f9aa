"""Tables of one's own."""

from pathlib import Path

import numpy as np
import pytest

from support.routing_worlds import workload, write_csv
from understudy.errors import BadInput
from understudy.routing.data import read


def test_a_table_is_read_with_its_text_ids_and_missing_labels(tmp_path: Path) -> None:
    made = workload(6, labelled=0.5)
    found = read(write_csv(made, tmp_path / "table.csv"))
    assert found.llms == ["small", "large"]
    assert found.text == made.text
    assert found.ids == made.ids
    np.testing.assert_array_equal(found.success, made.success)
    np.testing.assert_array_equal(found.cost, made.cost)
    assert found.is_labelled.tolist() == [True] * 3 + [False] * 3


def test_parquet_and_csv_hold_the_same_table(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"a": [1.0, 0.5], "a_cost": [0.1, 0.2], "b|total_cost": [1.0, 2.0], "b": [0, 1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("a,a_cost,b|total_cost,b\n1,0.1,1,0\n0.5,0.2,2,1\n")
    one, other = read(tmp_path / "t.parquet"), read(tmp_path / "t.csv")
    assert one.llms == other.llms == ["a", "b"]
    np.testing.assert_array_equal(one.success, other.success)
    np.testing.assert_array_equal(one.cost, [[0.1, 1.0], [0.2, 2.0]])
    assert one.ids == ["0", "1"]
    assert one.text is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,0\n", "no pair of columns NAME and NAME_cost"),
        ("a,a_cost\n1,-2\n", "row 1, a: -2; a cost is never negative"),
        ("a,a_cost\n1,\n", "row 1, a: nan; a cost is a number of dollars"),
        ("a,a_cost\n1,inf\n", "a cost is a number of dollars"),
        ("a,a_cost\n1.5,1\n", "row 1, a: 1.5; a success is 0 to 1"),
        ("a,a_cost\nyes,1\n", "row 1: a='yes' is not a number"),
        ("a,a_cost,b,b_cost\n1,1,,1\n", "a query has all its labels or none"),
        ("a,a_cost\n1\n", "fewer fields than the header"),
    ],
)
def test_an_odd_table_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(BadInput) as error:
        read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_keeps_every_column_in_step() -> None:
    made = workload(5)
    part = made.rows(np.array([4, 0]))
    assert part.ids == ["q4", "q0"]
    assert made.text is not None
    assert part.text == [made.text[4], made.text[0]]
    np.testing.assert_array_equal(part.cost, made.cost[[4, 0]])
