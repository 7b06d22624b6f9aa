"""Six questions about real judges, answered from public verdicts: figures and results.json.

    python experiments/judges/measure.py DATA --out experiments/judges

DATA holds the folders that README.md names. No row of them is written, only sums over them.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from scipy.special import ndtr
from scipy.stats import spearmanr

from understudy.evaluation.statistics.intervals import Interval, cluster_draws, cluster_mean
from understudy.evaluation.statistics.jackknife import SPREAD, widest
from understudy.judges import measure
from understudy.report.page import load_analysis

load_analysis()
from understudy_analysis import draw, labels  # noqa: E402

Row = dict[str, Any]
DRAWS = 1000
SAMPLES = [f"s{n}" for n in range(1, 9)]


def codes(frame: pd.DataFrame, *names: str) -> np.ndarray:
    """A number for each kind of row."""
    return frame.groupby(list(names), sort=False).ngroup().to_numpy()


def ends(found: Interval, digits: int = 4) -> list[float | None]:
    """Estimate and limits."""
    return [None if end is None else round(float(end), digits) for end in found[:3]]


# --- 1: repeats ----------------------------------------------------------------------------------


def repeats(data: Path, out: Path) -> Row:
    """rb2_repeats8: is the right one of four answers the best, by repeats and by judge?"""
    whole = pd.read_csv(data / "rb2_repeats8" / "scores8.csv.gz")
    whole = whole[(whole["prompt"] == "base") & (whole["temperature"] == 1)]
    credit: dict[tuple[str, int], pd.DataFrame] = {}
    rows: list[Row] = []
    grouped: list[Row] = []
    for judge, mine in whole.groupby("judge"):
        for m in range(1, 9):
            mean = mine[SAMPLES[:m]].mean(axis=1)
            wide = mine.assign(mean=mean).pivot(
                index=["subset", "id"], columns="answer", values="mean"
            )
            best = wide[[1, 2, 3]].max(axis=1)
            tied = (wide[[1, 2, 3]].eq(wide[0], axis=0)).sum(axis=1)
            made = pd.DataFrame({
                "strict": (wide[0] > best).astype(float),
                "shared": np.where(wide[0] >= best, 1 / (1 + tied.where(wide[0] == best, 0)), 0.0),
                "tied": (wide[0] == best).astype(float),
            }, index=wide.index)  # fmt: skip
            credit[str(judge), m] = made
            rows += [
                {"judge": judge, "m": m, "ties": kind, **_ends(made[kind])}
                for kind in ("strict", "shared", "tied")
            ]
            if m in (1, 8):
                grouped += _by_both(mine.assign(mean=mean), str(judge), m)
    pairs = [("gpt-5.4-nano", 8, "gpt-5.4", 1), ("gpt-5.4-mini", 8, "gpt-5.4", 1),
             ("claude-haiku-4-5", 8, "claude-sonnet-4-6", 1), ("gpt-5.4-nano", 8, "gpt-5.4", 8),
             ("gpt-5.4-mini", 8, "gpt-5.4", 8),
             ("claude-haiku-4-5", 8, "claude-sonnet-4-6", 8)]  # fmt: skip
    differences = []
    for small, m, large, n in pairs:
        for kind in ("strict", "shared"):
            both = (credit[small, m][kind] - credit[large, n][kind]).dropna()
            name = f"{small} × {m} − {large} × {n}"
            differences.append({"pair": name, "ties": kind, "items": len(both), **_ends(both)})
    iccs = []
    for judge, mine in whole.groupby("judge"):
        found = measure.retest(mine[SAMPLES].to_numpy(float), codes(mine, "subset", "id"), DRAWS)
        assert found is not None
        iccs.append({"judge": judge, "icc": ends(found.icc), "sd": round(found.sd, 3),
                     "for_answers": found.for_answers, "for_means": found.for_means})  # fmt: skip
    frame = pd.DataFrame(rows)
    with draw.canvas(2, 2, "", False) as (figure, axes):
        for ax, (kind, title) in zip(
            axes, (("strict", "a tie is wrong"), ("shared", "a tie is shared")), strict=True
        ):
            here = frame[frame["ties"] == kind]
            sns.lineplot(here, x="m", y="mean", hue="judge", style="judge", markers=True, ax=ax,
                         dashes=False, errorbar=None, palette=labels.JUDGES[:5])  # fmt: skip
            for (_, one), colour in zip(here.groupby("judge"), labels.JUDGES, strict=False):
                ax.fill_between(one["m"], one["low"], one["high"], color=colour, alpha=0.12, lw=0)
            ax.set(title=title, xlabel="verdicts per answer", ylabel="right answer is the best")
            ax.set_ylim(0.45, 0.9)
            ax.legend(fontsize=7)
    draw.save(figure, out / "repeats.png")
    return {"right": rows, "groupings": grouped, "differences": differences, "retest": iccs}


def _by_both(mine: pd.DataFrame, judge: str, m: int) -> list[Row]:
    """The right one is best, by question and by id alone, which 40 pairs of questions share.

    An id's cell is the mean of its questions'. A tie is wrong, and what is missing never best.
    """
    found = []
    for name, index in (("subset + id", ["subset", "id"]), ("id", ["id"])):
        wide = mine.groupby([*index, "answer"])["mean"].mean().unstack("answer")
        right = (wide[0] > wide[[1, 2, 3]].max(axis=1)).astype(float)
        found.append({"judge": judge, "m": m, "by": name, "items": len(right), **_ends(right)})
    return found


def _ends(values: "pd.Series[float]") -> Row:
    """The mean over items, which are their own clusters."""
    found = cluster_mean(values.to_numpy(), np.arange(len(values)))
    return dict(zip(("mean", "low", "high"), ends(found), strict=True))


# --- 2: replaced ---------------------------------------------------------------------------------

BRIDGES = (25, 50, 100, 200, 400, 800, 1600)


def replaced(data: Path, out: Path) -> Row:
    """shaberi and wildbench: how far scores move, and what a bridge of n answers restores."""
    shaberi = pd.read_csv(data / "shaberi_judges" / "scores.csv.gz")
    wild = pd.read_csv(data / "wildbench_judges" / "scores.csv.gz")
    wild = wild.rename(columns={"session_id": "q", "output_sha": "answer_sha"})
    turbo, four, five = "gpt-4-turbo-preview", "gpt-4.1-2025-04-14", "gpt-5.1-2025-11-13"
    spans = {"ELYZA-tasks-100": 4.0, "tengu_bench": 10.0}  # 1-5 and 0-10; the others 1-10
    cases = [
        (str(name), part, old, new, spans.get(str(name), 9.0))
        for name, part in shaberi.groupby("dataset")
        for old, new in ((turbo, four), (four, five))
    ]
    cases.append(("wildbench", wild, "gpt-4-turbo-2024-04-09", "gpt-4o-2024-05-13", 9.0))
    moves, curve = [], []
    for name, part, old, new, span in cases:
        wide = part.pivot_table(index=["q", "model", "answer_sha"], columns="judge", values="score")
        both = wide[[old, new]].dropna().reset_index()
        x, y = both[old].to_numpy(), both[new].to_numpy()
        system, item = codes(both, "model"), codes(both, "q")
        one = measure.move(x, y, system, item, span, DRAWS)
        assert one is not None
        difference = y - x
        sums = np.stack([np.ones(len(x)), difference, difference**2], axis=1)
        sd = widest(sums, item, _sd, SPREAD, DRAWS)[:3]
        needed = [int(np.ceil((1.959964 * end / (0.01 * span)) ** 2)) for end in sd]
        case = {"set": name, "old": old, "new": new}
        moves.append(case | {
            "answers": one.answers, "systems": one.systems, "first": round(one.first, 3),
            "second": round(one.second, 3), "shift": ends(one.shift), "span": span,
            "shift_percent": ends(Interval(*(e * 100 / span for e in one.shift[:3]))),
            "rho": ends(one.rho), "tau": one.tau, "sd": round(one.sd or 0, 3), "bridge": needed,
            "sd_between_systems_percent":
                None if one.of_systems is None else round(100 * one.of_systems / span, 2),
        })  # fmt: skip
        curve += [case | row for row in _bridges(x, y, system, span)]
    frame = pd.DataFrame([row for row in curve if row["full"] >= 1000])
    frame["case"] = frame["set"]
    with draw.canvas(2, 2, "", False, 3.6) as (figure, axes):
        for ax, (column, title) in zip(axes, (
            ("error", "error of the mean, % of the scale (95 % of draws)"),
            ("systems_shift", "systems whose mean is restored to ± 1 %, %"),
        ), strict=True):  # fmt: skip
            sns.lineplot(frame, x="n", y=column, hue="case", style="case", markers=True, ax=ax,
                         dashes=False, errorbar=None, palette=labels.JUDGES[:5],
                         legend=column == "error")  # fmt: skip
            ax.set(xscale="log", xlabel="bridge answers scored by both", ylabel="", title=title)
            ticks = [25, 100, 400, 1600, 5000]
            ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
            ax.minorticks_off()
        axes[0].axhline(1, color=labels.INK, lw=0.8, ls="--")
        axes[0].legend(fontsize=7)
    draw.save(figure, out / "replaced.png")
    return {"moves": moves, "bridges": curve}


def _sd(sums: np.ndarray) -> np.ndarray:
    n, total, squares = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(squares - total**2 / n, 0) / (n - 1))


def _bridges(x: np.ndarray, y: np.ndarray, system: np.ndarray, span: float) -> list[Row]:
    """Old scores from new ones: by the mean shift, and by a line, from n random answers."""
    draws = np.random.default_rng(0)
    count = np.bincount(system)
    keep = count >= 20
    means_x, means_y = (np.bincount(system, v)[keep] / count[keep] for v in (x, y))
    rows = []
    for n in (*(n for n in BRIDGES if n < len(x) / 2), len(x)):
        errors, by_shift, by_line, after_line = [], [], [], []
        for _ in range(1 if n == len(x) else 400):
            chosen = draws.choice(len(x), n, replace=False)
            shift = (y[chosen] - x[chosen]).mean()
            slope, origin = np.polyfit(y[chosen], x[chosen], 1)
            errors.append(abs((y - shift).mean() - x.mean()))
            after_line.append(abs((origin + slope * y).mean() - x.mean()))
            by_shift.append((np.abs(means_y - shift - means_x) <= 0.01 * span).mean())
            by_line.append((np.abs(origin + slope * means_y - means_x) <= 0.01 * span).mean())
        rows.append({
            "n": n, "full": len(x),
            "error": round(100 * float(np.quantile(errors, 0.95)) / span, 3),
            "error_line": round(100 * float(np.quantile(after_line, 0.95)) / span, 3),
            "systems_shift": round(100 * float(np.mean(by_shift)), 1),
            "systems_line": round(100 * float(np.mean(by_line)), 1), "systems": int(keep.sum()),
            "unmended": round(100 * float((np.abs(means_y - means_x) <= 0.01 * span).mean()), 1),
        })  # fmt: skip
    return rows


# --- 3: experts ----------------------------------------------------------------------------------


def experts(data: Path, out: Path) -> Row:
    """summeval: ρ with three experts, by judge and wording, over four dimensions."""
    whole = pd.read_csv(data / "summeval_panel" / "scores.csv.gz")
    whole["prompt"] = whole["prompt"].fillna("")
    keys = ["doc", "system", "dimension"]
    of_expert = whole[whole["rater"].str.startswith("expert")]
    target = of_expert.groupby(keys)["score"].mean().rename("experts")
    rows = []
    for (rater, wording), mine in whole.groupby(["rater", "prompt"]):
        own = mine.groupby(keys)["score"].mean().rename("own")
        other = target
        if rater.startswith("expert"):
            rest = of_expert[of_expert["rater"] != rater]
            other = rest.groupby(keys)["score"].mean().rename("experts")
        both = pd.concat([own, other], axis=1).dropna().reset_index()
        for dimension, part in both.groupby("dimension"):
            rho = _rho(part)
            bias = cluster_mean((part["own"] - part["experts"]).to_numpy(), codes(part, "doc"))
            rows.append({"rater": rater, "wording": wording, "dimension": dimension,
                         "answers": len(part), "rho": ends(rho), "bias": ends(bias)})  # fmt: skip
    crowd = whole[whole["rater"].str.startswith("turker")].groupby(keys)["score"].mean()
    both = pd.concat([crowd.rename("own"), target], axis=1).dropna().reset_index()
    for dimension, part in both.groupby("dimension"):
        rho = _rho(part)
        rows.append({"rater": "mean of 5 crowd workers", "wording": "", "dimension": dimension,
                     "answers": len(part), "rho": ends(rho), "bias": [None] * 3})  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["name"] = [f"{r['rater']} {r['wording']}".strip() for r in rows]
    frame["value"] = [r["rho"][0] for r in rows]
    table = frame.pivot_table(index="name", columns="dimension", values="value")
    table = table.loc[table.mean(axis=1).sort_values(ascending=False).index]
    with draw.canvas(1, 1, "", False, 5.6) as (figure, axes):
        figure.set_size_inches(7.2, 6.4)
        sns.heatmap(table, annot=True, fmt=".2f", cmap="crest", ax=axes[0], cbar=False,
                    annot_kws={"size": 7})  # fmt: skip
        axes[0].set(title="Spearman's ρ with the experts' mean", xlabel="", ylabel="")
        axes[0].tick_params(labelsize=7)
    draw.save(figure, out / "experts.png")
    return {"rho": rows}


def _rho(part: pd.DataFrame) -> Interval:
    own, experts_mean = part["own"].to_numpy(), part["experts"].to_numpy()
    return measure.correlation(own, experts_mean, codes(part, "doc"), draws=DRAWS)


# --- 4: heaping ----------------------------------------------------------------------------------


def heaping(data: Path, out: Path) -> Row:
    """gemba: how a scale is used, and how many pairs of systems its scores tell apart."""
    whole = pd.read_csv(data / "gemba_0_100" / "en-de.csv.gz")
    names = [name for name in whole.columns if "|" in name]
    rows = []
    for name in names:
        judge, scale, source = name.split("|")
        heap = measure.heap(whole[[name]].to_numpy(float), codes(whole, "segment"))
        assert heap is not None
        wide = whole.pivot(index="segment", columns="system", values=name).dropna()
        rows.append({
            "judge": judge, "scale": scale, "source": source, "most_given": heap.value,
            "share": ends(heap.share), "distinct": heap.distinct,
            "effective": round(heap.effective, 2), **_apart(wide.to_numpy()),
        })  # fmt: skip
    values = whole["GPT4|DA|refA"]
    thresholds = {t: round(float((values >= t).mean()), 4) for t in (90, 95, 96, 100)}
    frame = pd.DataFrame(rows)
    frame["tied pairs, %"] = [100 * r["equal"][0] for r in rows]
    frame["told apart, %"] = [100 * r["apart_100"][0] for r in rows]
    frame = frame[frame["source"] == "refA"]
    with draw.canvas(2, 2, "", False, 3.2) as (figure, axes):
        for ax, column in zip(axes, ("tied pairs, %", "told apart, %"), strict=True):
            sns.barplot(frame, x="scale", y=column, hue="judge", ax=ax, palette="colorblind")
            ax.set_ylim(0, 100)
            ax.legend(fontsize=7, ncols=2, loc="upper left")
        axes[0].set(title="two systems, one segment: equal scores", xlabel="", ylabel="%")
        axes[1].set(title="pairs of systems told apart by 100 segments", xlabel="", ylabel="%")
    draw.save(figure, out / "heaping.png")
    return {"scales": rows, "GPT4 DA refA at or above": thresholds}


def _apart(scores: np.ndarray) -> Row:
    """Of all pairs of systems: equal scores on a segment, and how many are told apart."""
    pairs = list(itertools.combinations(range(scores.shape[1]), 2))
    difference = np.stack([scores[:, a] - scores[:, b] for a, b in pairs], axis=1)  # (S, P)
    counts = cluster_draws(len(scores), 200, 0)  # (draws, S)
    n = len(scores)

    def power(weights: np.ndarray, size: int) -> np.ndarray:
        mean = weights @ difference / n
        spread = np.sqrt(np.maximum(weights @ difference**2 / n - mean**2, 1e-12) / size)
        # As often as a paired z test of `size` segments is expected to find the difference.
        return ndtr(np.abs(mean) / spread - 1.96).mean(-1)

    found: Row = {}
    ones = np.ones((1, n))
    for name, size in (("apart_100", 100), ("apart_all", n)):
        drawn = power(counts, size)
        limits = np.quantile(drawn, [0.025, 0.975]).round(4).tolist()
        found[name] = [round(float(power(ones, size)[0]), 4), *limits]
    equal = (difference == 0).mean(1)
    found["equal"] = ends(cluster_mean(equal, np.arange(n)))
    return found


# --- 5: the reason -------------------------------------------------------------------------------

REASONS = {
    "score only": ["geval", "geval_no_auto_cot"],
    "score, then reason": ["rate_explain", "rate_explain_auto_cot"],
    "reason, then score": ["analyze_rate", "analyze_rate_auto_cot"],
}


def reasons(data: Path, out: Path) -> Row:
    """topicalchat: ρ with humans and ICC(1), without a reason, with one before or after."""
    whole = pd.read_json(data / "topicalchat_repeats" / "scores20.jsonl.gz", lines=True)
    values = np.array([[np.nan if v is None else v for v in one] for one in whole["scores"]], float)
    rows = []
    for (dimension, wording), index in whole.groupby(["dimension", "prompt"]).indices.items():
        part, mine = whole.iloc[index], values[index]
        item = codes(part, "dialogue")
        found = measure.retest(mine, item, DRAWS)
        assert found is not None
        row: Row = {"dimension": dimension, "wording": wording, "icc": ends(found.icc),
                    "unreadable": int(np.isnan(mine).sum())}  # fmt: skip
        for m in (1, 5, 20):
            mean = measure.first_mean(mine, m)
            human = part["human"].to_numpy()
            row[f"rho_{m}"] = ends(measure.correlation(mean, human, item, draws=DRAWS))
        rows.append(row)
    differences = []
    for m in (1, 20):
        for one, other in itertools.combinations(REASONS, 2):
            differences.append({"repeats": m, "pair": f"{other} − {one}",
                                "rho": _of_kinds(whole, values, one, other, m)})  # fmt: skip
    differences.append({"repeats": "20 and 1", "pair": "score only × 20 − reason, then score × 1",
                        "rho": _of_kinds(whole, values, "reason, then score", "score only",
                                         1, 20)})  # fmt: skip
    kinds = {wording: kind for kind, those in REASONS.items() for wording in those}
    frame = pd.DataFrame([
        {"dimension": r["dimension"], "kind": kinds[r["wording"]], "verdicts": m,
         "rho": r[f"rho_{m}"][0], "icc": r["icc"][0]}
        for r in rows for m in (1, 5, 20) if r["wording"] in kinds
    ])  # fmt: skip
    with draw.canvas(2, 2, "", False, 3.2) as (figure, axes):
        sns.barplot(frame, x="verdicts", y="rho", hue="kind", ax=axes[0], palette="colorblind",
                    hue_order=list(REASONS), errorbar=("pi", 100))  # fmt: skip
        axes[0].set(title="Spearman's ρ with humans (range over wordings)", ylabel="")
        sns.barplot(frame, x="dimension", y="icc", hue="kind", ax=axes[1], palette="colorblind",
                    hue_order=list(REASONS), errorbar=("pi", 100))  # fmt: skip
        axes[1].set(title="ICC(1) of one verdict", xlabel="", ylabel="")
        axes[1].tick_params(axis="x", labelrotation=15, labelsize=7)
        for ax in axes:
            ax.set_ylim(0, 1)
            ax.legend(fontsize=7, loc="upper left")
    draw.save(figure, out / "reasons.png")
    return {"cells": rows, "differences": differences}


def _of_kinds(
    whole: pd.DataFrame, values: np.ndarray, one: str, other: str, m: int, n: int | None = None
) -> list[float]:
    """Mean ρ of `other` (n repeats) minus that of `one` (m), over dimensions and wordings.

    Dialogues are drawn anew; the same draw is used for both.
    """
    dialogues = whole["dialogue"].unique()
    place = {name: np.flatnonzero(whole["dialogue"] == name) for name in dialogues}
    means = {one: measure.first_mean(values, m), other: measure.first_mean(values, n or m)}
    human = whole["human"].to_numpy()
    labels_of = (whole["dimension"] + "|" + whole["prompt"]).to_numpy()

    def rho(kind: str, rows: np.ndarray) -> float:
        found = []
        for dimension in whole["dimension"].unique():
            for wording in REASONS[kind]:
                here = rows[labels_of[rows] == f"{dimension}|{wording}"]
                both = here[~np.isnan(means[kind][here])]
                if len(both):
                    found.append(spearmanr(means[kind][both], human[both]).statistic)
        return float(np.mean(found))

    every = np.arange(len(whole))
    value = rho(other, every) - rho(one, every)
    draws = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([place[d] for d in draws.choice(dialogues, len(dialogues))])
        drawn.append(rho(other, rows) - rho(one, rows))
    return [round(value, 4), *np.quantile(drawn, [0.025, 0.975]).round(4).tolist()]


# --- 6: position ---------------------------------------------------------------------------------


def position(data: Path, out: Path) -> Row:
    """llmbar: the same winner in both orders, and what asking both ways is worth."""
    whole = pd.read_csv(data / "llmbar_orders" / "pairwise.csv.gz")
    # Ratings are of one answer at a time, so they have no order.
    whole = whole[~whole["prompt"].str.startswith("Rating")]
    both = whole.dropna(subset=["winner_12", "winner_21"])
    both = both.assign(
        same=both["winner_12"] == both["winner_21"],
        first=((both["winner_12"] == 1).astype(float) + (both["winner_21"] == 2)) / 2,
        right_12=both["winner_12"] == both["label"],
        right_21=both["winner_21"] == both["label"],
    )
    both["once"] = (both["right_12"].astype(float) + both["right_21"]) / 2
    both["twice"] = both["right_12"] & both["right_21"]
    rows = []
    for (judge, wording), part in both.groupby(["judge", "prompt"]):
        rows.append({"judge": judge, "wording": wording, **_position(part)})
    pooled = [{"judge": judge, **_position(part)} for judge, part in both.groupby("judge")]
    frame = pd.DataFrame([{"judge": r["judge"], "same": 100 * r["same"][0]} for r in rows])
    order = [r["judge"] for r in sorted(pooled, key=lambda r: -r["same"][0])]
    with draw.canvas(2, 2, "", False, 3.2) as (figure, axes):
        sns.stripplot(frame, x="same", y="judge", order=order, ax=axes[0], color=labels.JUDGES[0])
        axes[0].set(title="same winner in both orders, %", xlabel="a point per wording", ylabel="")
        known = pd.DataFrame([
            {"judge": r["judge"], "agrees with the label": name, "%": 100 * r[key][0]}
            for r in pooled
            for name, key in (("one order", "once"), ("where both orders agree", "when_same"))
        ])  # fmt: skip
        sns.barplot(known, x="%", y="judge", hue="agrees with the label", order=order, ax=axes[1],
                    palette="colorblind")  # fmt: skip
        axes[1].axvline(50, color=labels.INK, lw=0.8, ls="--")
        axes[1].set(title="agrees with the label, %", xlabel="", ylabel="")
        sns.move_legend(axes[1], "lower right", fontsize=6, title=None, frameon=True)
    draw.save(figure, out / "position.png")
    return {"wordings": rows, "judges": pooled}


def _position(part: pd.DataFrame) -> Row:
    item = codes(part, "subset", "pair")
    found: Row = {"pairs": len(part)}
    for name in ("same", "first", "once", "twice"):
        found[name] = ends(cluster_mean(part[name].to_numpy(float), item))
    rest = part[part["same"]]
    kept = cluster_mean(rest["once"].to_numpy(float), codes(rest, "subset", "pair"))
    return found | {"when_same": ends(kept)}


QUESTIONS: dict[str, Callable[[Path, Path], Row]] = {
    **{"repeats": repeats, "replaced": replaced, "experts": experts},
    **{"heaping": heaping, "reasons": reasons, "position": position},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all questions, or some; results.json keeps the others as they are."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="where the folders of verdicts are")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=QUESTIONS, nargs="*", default=list(QUESTIONS))
    given = parser.parse_args(arguments)
    file = given.out / "results.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in given.only:
        found[name] = QUESTIONS[name](given.data, given.out)
        print(name)
    text = json.dumps({name: found[name] for name in QUESTIONS if name in found}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
