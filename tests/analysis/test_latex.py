"""LaTeX prints every sign as it is, and tables that are no wider than the page."""

import re
import shutil
import string
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from support import grid_runs
from support.analysis import module

SIGNS = [
    *string.printable.strip(),
    *"τκαβΓΩςλ≥≤×÷±→−–—…“”‘’„«»≈≠∞•°µ",
    *"éüßøŁçñőšîÅŠæŒ",
    *"中文🙂فи\u200b\u00a0\u2009\ufb01½",
]
TEXTS = [
    *("< 0.001", "Kendall τ-b, a / b", "50 % of a_b & $5 #1 {x} ~ ^ \\", "[1, 2] first in its row"),
    *("--set NAME=VALUE", 'said "so"', "a|b", "meta-llama/Meta-Llama-3.1-405B-Instruct_of_july"),
    *("x" * 90, "Ünïcödé ≥ 90 → 中文 🙂", "line\nbreak\ttab"),
]


def table(texts: list[str] = TEXTS, numbers: int = 9) -> Any:
    """A table of names and numbers wider than any page."""
    tables = module("tables")
    frame = pd.DataFrame({"text": texts, "other": texts[::-1]})
    columns = [
        *(tables.Column(f"Heading & {n}", lambda row, n=n: row[n], False) for n in frame),
        *(tables.Column(f"Σ ≥ {n} %", lambda row: "1,234.5 [1,200.1, 1,250.9]")
          for n in range(numbers)),
    ]  # fmt: skip
    caption = "All signs: " + " ".join(texts)
    return tables.Table(
        "table_signs", caption, frame, columns, True, lambda row: "<" in row["text"]
    )


def source(tmp_path: Path, one: Any) -> str:
    module("tables").write(one, tmp_path)
    return (tmp_path / f"{one.name}.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize("sign", SIGNS)
def test_every_sign_becomes_ascii_that_latex_prints(sign: str) -> None:
    text = module("tables").escape(f"a{sign}b")
    assert text.isascii()
    bare = re.sub(r"\\[a-zA-Z]+|\\.", "", text)
    bare = re.sub(r"\$[^$]*\$", "", bare)
    assert not set(bare) & set('&%$#_~^\\<>|"') - ({"~"} if sign == "\u00a0" else set())
    assert bare.count("{") == bare.count("}")


def test_no_part_of_a_table_is_wider_than_the_page(tmp_path: Path) -> None:
    text = source(tmp_path, table())
    parts = re.findall(r"\\begin\{longtable\}\{@\{\}(.*)@\{\}\}", text)
    assert len(parts) > 1
    for part in parts:
        widths = [float(one) for one in re.findall(r"p\{([\d.]+)pt\}", part)]
        assert sum(widths) + 6 * (len(widths) - 1) <= 345
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}")


def test_a_row_never_begins_with_an_option(tmp_path: Path) -> None:
    text = source(tmp_path, table(["[1, 2]", "* starred"]))
    assert not re.search(r"\\\\\s*[\[*]", text)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_tables_compile_in_article_without_a_line_too_long(tmp_path: Path) -> None:
    module("tables").write(table(), tmp_path)
    module("tables").write(table(["short", "< 0.001"], 2)._replace(name="table_small"), tmp_path)
    cells = grid_runs.grid(trainer=("tiny", "lora"), seed=(0, 1, 2), data_size=(0, 250))
    grid_runs.write(tmp_path / "runs", cells)
    data = module("sources").load(["grid"], tmp_path / "runs")
    module("reproduce").build(data, tmp_path)
    files = sorted(path.name for path in tmp_path.glob("*.tex"))
    assert len(files) >= 8
    inputs = "\n".join(f"\\input{{{name}}}\\clearpage" for name in files)
    packages = "\\usepackage{booktabs,longtable,array,xcolor}"
    document = (
        f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{inputs}\n\\end{{document}}"
    )
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(3):  # longtable measures its columns in the runs before
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, errors="replace"
        )
        assert done.returncode == 0, done.stdout[-3000:]
    wide = [float(pt) for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(wide, default=0.0) < 1.0
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")
