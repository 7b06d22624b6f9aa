"""The published outcome tables, by path: LogPai, OVERRULING, RouterBench, FrugalGPT's releases."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from understudy.data.reading import read_file
from understudy.errors import BadInput
from understudy.routing.data import Outcomes, check, read


def logpai(folder: Path) -> Outcomes:
    """LogPai: 32,000 log lines of 16 systems, 8 LLMs; the OptLLM paper's own data set.

    Groups: `line` (equal content), `template` (equal reference), `system`.
    """
    outcomes = read(folder / "logpai_acc_cost.csv.gz")
    texts = [raw.values or {} for raw in read_file(folder / "logpai_acc_tokens.csv.gz")]
    if len(texts) != len(outcomes.ids):
        raise BadInput(f"the two LogPai tables in {folder} differ in their number of rows")
    content, templates, systems = (
        [str(row[name]) for row in texts] for name in ("content", "ref", "dataset")
    )
    groups = {"line": content, "template": templates, "system": systems}
    return replace(outcomes, text=content, groups=groups)


def overruling(folder: Path) -> Outcomes:
    """OVERRULING: 2,160 legal queries, 12 LLMs; it knows neither templates nor systems."""
    outcomes = read(folder / "overruling.csv")
    assert outcomes.text is not None, "read() takes the column `content` as text"
    return replace(outcomes, groups={"line": outcomes.text})


def overruling_fasttext(folder: Path) -> Outcomes:
    """OVERRULING with the features that the paper uses: mean FastText vectors."""
    vectors = np.load(folder / "overruling_fasttext300.npy", allow_pickle=False)
    return replace(overruling(folder), features=vectors.astype(float))


def routerbench(folder: Path) -> Outcomes:
    """RouterBench, 0-shot, ARC, MBPP and WinoGrande: 3,164 scored queries, 11 LLMs."""
    path = folder / "routerbench_0shot_arc_mbpp_winogrande.csv.gz"
    outcomes = read(path)
    tasks = [str((raw.values or {})["eval_name"]) for raw in read_file(path)]
    assert outcomes.text is not None, "read() takes the column `prompt` as text"
    outcomes = replace(outcomes, groups={"line": outcomes.text, "system": tasks})
    return outcomes.rows(outcomes.is_labelled)  # 14 rows have no score


def frugalgpt(folder: Path, name: str) -> Outcomes:
    """A table of FrugalGPT's release 0.0.1 (AGNEWS, COQA, HEADLINES, SCIQ): `NAME.csv`, or .csv.gz.

    Either a row per query and LLM (`query`, `ref_answer`, `service_name`, `answer`, `cost`), or a
    row per query with a column `LLM` of answers and one `LLM_cost` for each LLM. An answer is right
    if it equals the reference but for case, white space and a full stop at the end.
    """
    choices = [
        folder / f"{one}{end}" for one in (name, name.lower()) for end in (".csv", ".csv.gz")
    ]
    path = next((one for one in choices if one.is_file()), None)
    if path is None:
        raise BadInput(f"{folder} holds none of {', '.join(one.name for one in choices)}")
    rows = [(raw.place, raw.values or {}) for raw in read_file(path)]
    answers: dict[str, dict[str, tuple[str, float]]] = {}  # query -> LLM -> answer, USD
    usd: Any
    references: dict[str, str] = {}
    for place, row in rows:
        if missing := {"query", "ref_answer"} - row.keys():
            raise BadInput(f"{place} has no column {', '.join(sorted(missing))}")
        query = str(row["query"])
        references[query] = str(row["ref_answer"])
        service = next((str(row[column]) for column in _SERVICE if row.get(column)), None)
        if service is not None:
            found = {service: (row.get("answer"), row.get("cost"))}
        else:
            names = [column for column in row if f"{column}_cost" in row]
            found = {llm: (row[llm], row[f"{llm}_cost"]) for llm in names}
        for llm, (answer, usd) in found.items():
            try:
                answers.setdefault(query, {})[llm] = (str(answer or ""), float(usd))
            except (TypeError, ValueError):
                raise BadInput(f"{place}: {llm} cost {usd!r}, which is no number") from None
    llms = list(dict.fromkeys(llm for one in answers.values() for llm in one))
    whole = [query for query, one in answers.items() if len(one) == len(llms)]
    if not llms or not whole:
        raise BadInput(f"{path} has no query that every LLM answered")
    success = [
        [_plain(answers[query][llm][0]) == _plain(references[query]) for llm in llms]
        for query in whole
    ]
    cost = [[answers[query][llm][1] for llm in llms] for query in whole]
    dropped = len(answers) - len(whole)
    note = f"{dropped:,} of {len(answers):,} queries lack some LLM's answer and are left out"
    outcomes = Outcomes(
        llms,
        np.array(success, float),
        np.array(cost, float),
        [str(number) for number in range(len(whole))],
        whole,
        {"line": whole},
        notes=(note,) if dropped else (),
    )
    check(outcomes.success, outcomes.cost, llms, str(path))
    return outcomes


_SERVICE = ("service_name", "service", "model")


def _plain(answer: str) -> str:
    return " ".join(answer.casefold().split()).removesuffix(".")


BENCHMARKS: dict[str, Callable[[Path], Outcomes]] = {
    "logpai": logpai,
    "overruling": overruling,
    "overruling_fasttext": overruling_fasttext,
    "routerbench": routerbench,
    **{
        name.lower(): partial(frugalgpt, name=name)
        for name in ("AGNEWS", "COQA", "HEADLINES", "SCIQ")
    },
}
