"""One table of routers over every published table, from what the studies wrote."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support.analysis import module
from understudy.errors import BadInput


def line(split: str, router: str, gain: float, ahead: float | None) -> dict[str, Any]:
    limits = {} if ahead is None else {"ahead_low": ahead - 0.01, "ahead_high": ahead + 0.01}
    return {
        **{"split": split, "router": router, "seeds": 10, "labels": 320, "tested": 31_680},
        **{"best_single": "Mixtral", "best_accuracy": 0.5912, "highest_accuracy": 0.7},
        **{"saving": None if gain < 0 else 0.731, "reached": 0 if gain < 0 else 9},
        **{"gain": gain, "gain_low": gain - 0.02, "gain_high": gain + 0.02, "ahead": ahead},
        **limits,
    }


def written(folder: Path, dataset: str, *lines: dict[str, Any]) -> None:
    (folder / f"{dataset}.json").write_text(json.dumps({"dataset": dataset, "lines": lines}))


def test_every_split_of_every_study_is_a_row_with_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(
        tmp_path, "logpai",
        line("random", "zero router", 0, None), line("random", "ours", 0.157, None),
        line("random", "k nearest neighbours", 0.127, 0.03),
        line("random", "k-means clusters", 0.089, 0.068),
        line("unseen_line", "ours", -0.05, None),
        line("unseen_line", "k nearest neighbours", -0.07, 0.02),
    )  # fmt: skip
    written(tmp_path, "alone", line("random", "ours", 0.1, None))
    (tmp_path / "summary.json").write_text("[]")
    assert module("table_routers").main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.strip() == (tmp_path / "table_routers.md").read_text().strip()
    first, second = (row for row in said.splitlines() if row.startswith("| logpai"))
    assert first.split(" | ")[1:] == [
        *("random", "10", "320", "Mixtral 0.5912", "15.70 [13.70, 17.70]", "12.70 [10.70, 14.70]"),
        *("8.90 [6.90, 10.90]", "3.00 [2.00, 4.00]", "6.80 [5.80, 7.80]"),
        *("73.1 % (9)", "73.1 % (9)", "73.1 % (9) |"),
    ]
    assert second.split(" | ")[1:] == [
        *(
            "unseen line",
            "10",
            "320",
            "Mixtral 0.5912",
            "-5.00 [-7.00, -3.00]",
            "-7.00 [-9.00, -5.00]",
        ),
        *("–", "2.00 [1.00, 3.00]", "–", "– (0)", "– (0)", "– |"),
    ]
    assert "alone" not in said
    frame = pd.read_csv(tmp_path / "table_routers.csv")
    assert frame["knn.ahead.low"].tolist() == pytest.approx([0.02, 0.01])


def test_a_folder_without_studies_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert module("table_routers").main([str(tmp_path)]) == BadInput.exit_code
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path} holds no study with our router and a plain one: run")
