"""The published outcome tables, by path: LogPai, OVERRULING, RouterBench, FrugalGPT's releases.

RouteLLM's and RouterDC's tables have no costs: a study gives the prices (`PRICED`). `table` is one
of the user's own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from understudy.data.reading import read_file
from understudy.errors import BadInput
from understudy.routing import frugalgpt as released
from understudy.routing.costs import BYTES_PER_TOKEN, Price, lengths
from understudy.routing.data import Outcomes, check, read
from understudy.routing.splits import duplicates


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


def table(file: Path) -> Outcomes:
    """A table of the user's own, as `understudy route FILE` reads it; equal texts are a line."""
    outcomes = read(file)
    groups = {} if outcomes.text is None else {"line": duplicates(outcomes.text)}
    if "group" in outcomes.groups:
        groups["system"] = outcomes.groups["group"]
    left = int((~outcomes.is_labelled).sum())
    notes = (f"{left:,} of {len(outcomes.ids):,} queries have no labels and are left out",)
    outcomes = replace(outcomes, groups=groups, notes=notes if left else ())
    return outcomes.rows(outcomes.is_labelled)


def routellm(folder: Path, prices: Mapping[str, Price]) -> Outcomes:
    """RouteLLM's MMLU and GSM8K: 15,361 queries, right or wrong; a system is a subject."""
    return _priced(folder / "routellm_mixtral_gpt4.csv.gz", prices)


def routerdc(folder: Path, prices: Mapping[str, Price]) -> Outcomes:
    """RouterDC's 20,600 queries of nine sets, each a system; success is a share of ten samples."""
    return _priced(folder / "routerdc_7small.csv.gz", prices)


def _priced(file: Path, prices: Mapping[str, Price]) -> Outcomes:
    """A table of `task`, `prompt` and a success per LLM; a call costs its price by the lengths.

    What `LLM|resp_chars` does not tell of an answer's length is taken for no tokens.
    """
    rows = [raw.values or {} for raw in read_file(file)]
    absent = [name for name in ("task", "prompt", *prices) if name not in rows[0]]
    if absent or not prices:
        columns = ", ".join(rows[0])
        raise BadInput(
            f"{file} has no column {', '.join(absent)}; its columns are {columns}"
            if absent
            else f"{file} has no costs: give routing.prices, an IN/OUT for each LLM of {columns}"
        )
    texts = [str(row["prompt"]) for row in rows]
    asked = lengths(texts) / BYTES_PER_TOKEN
    success, cost, untold = [], [], 0
    for llm, price in prices.items():
        answered = np.array([float(row.get(f"{llm}|resp_chars") or "nan") for row in rows])
        untold = max(untold, int(np.isnan(answered).sum()))
        cost.append(price(asked, np.nan_to_num(answered) / BYTES_PER_TOKEN))
        success.append([float(row[llm]) for row in rows])
    note = f"{untold:,} answers of unknown length are priced at nothing, their prompts alone cost"
    # one set in two parts is one system
    systems = [re.sub(r"[-_](train|test)$", "", str(row["task"])) for row in rows]
    outcomes = Outcomes(
        list(prices),
        np.array(success).T,
        np.array(cost).T,
        [str(number) for number in range(len(rows))],
        texts,
        {"line": duplicates(texts), "system": systems},
        notes=(note,) if untold else (),
    )
    check(outcomes.success, outcomes.cost, outcomes.llms, str(file))
    return outcomes


def frugalgpt(folder: Path, name: str) -> Outcomes:
    """A table of FrugalGPT's release (AGNEWS, COQA, HEADLINES, SCIQ): `NAME.sqlite`, or `NAME.csv`.

    The database stands beside `NAME_train.csv` and `NAME_test.csv`. The CSV (or .csv.gz) has either
    a row per query and LLM (`query`, `ref_answer`, `service_name`, `answer`, `cost`), or one per
    query with a column `LLM` of answers and one `LLM_cost` for each LLM. An answer is right if it
    is the reference as FrugalGPT compares them (`frugalgpt.plain`).
    """
    database = folder / f"{name}.sqlite"
    if database.is_file():
        parts = [folder / f"{name}_{part}.csv" for part in ("train", "test")]
        return released.read(database, [part for part in parts if part.is_file()])
    choices = [
        folder / f"{one}{end}" for one in (name, name.lower()) for end in (".csv", ".csv.gz")
    ]
    path = next((one for one in choices if one.is_file()), None)
    if path is None:
        names = [*(one.name for one in choices), database.name]
        raise BadInput(f"{folder} holds none of {', '.join(names)}")
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
        [
            released.plain(answers[query][llm][0]) == released.plain(references[query])
            for llm in llms
        ]
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


BENCHMARKS: dict[str, Callable[[Path], Outcomes]] = {
    "logpai": logpai,
    "overruling": overruling,
    "overruling_fasttext": overruling_fasttext,
    "routerbench": routerbench,
    "table": table,
    **{
        name.lower(): partial(frugalgpt, name=name)
        for name in ("AGNEWS", "COQA", "HEADLINES", "SCIQ")
    },
}
PRICED = {"routellm": routellm, "routerdc": routerdc}
