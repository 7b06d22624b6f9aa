"""`understudy route`: which LLM answers which query; `register` adds the verb to the parser."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.routing.allocate import Goal, Routed
    from understudy.routing.data import Outcomes

_HELP = "give each query the LLM that answers it at least cost for the accuracy wanted"
_EXAMPLES = """DATA is a table (CSV, JSONL, parquet) with a row per query: for each LLM a column
NAME with its success, 0 to 1, and NAME_cost with the USD of that call; a column text (or content,
prompt, query) is what to learn from. Queries with empty successes are the ones to route.

FrugalGPT's released database (SQLite) is a table, too, with --references NAME_train.csv, and again
for NAME_test.csv; --table FILE writes it as a table and routes nothing.

RUN is a migration: the judged answers of its local model and of its service.

examples:
  understudy route predictions.csv --budget 5        the most accurate plan for 5 USD
  understudy route labels.csv --accuracy 0.9         the cheapest plan whose accuracy is promised
  understudy route headlines.sqlite --references headlines_train.csv --table headlines.csv
  understudy route my-run --price-of gpt-4o=2.5/10   a router between local model and service
  understudy route experiment=routing/logpai routing.data=DIR      a published table beside ours

It writes assignment.csv, summary.json, routing.svg and, where something was learnt, router/, which
a gateway loads. The price is the online rule: a query goes to argmax of success - price x USD.
"""


def register(verbs: Any) -> None:
    """Add the verb `route` to the subparsers of `understudy`."""
    sub = verbs.add_parser(
        "route",
        help=_HELP,
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(verb=route)
    sub.add_argument("what", nargs="+", metavar="DATA|RUN|KEY=VALUE", help="see below")
    goal = sub.add_mutually_exclusive_group()
    goal.add_argument("--budget", type=float, metavar="USD", help="total for the queries routed")
    goal.add_argument("--accuracy", type=float, metavar="SHARE", help="at least, at least cost")
    goal.add_argument("--price", type=float, metavar="LAMBDA", help="worth of 1 USD in successes")
    sub.add_argument("--delta", type=float, default=0.05, help="risk of a promise (%(default)s)")
    sub.add_argument(
        "--held-out", type=float, default=0.5, metavar="SHARE",
        help="of the labelled queries, for promise and band (%(default)s)",
    )  # fmt: skip
    sub.add_argument("--learner", default="auto", help="forest, neighbours, logistic or auto")
    sub.add_argument("--solver", default="exact", help="exact, or optllm: the published search")
    sub.add_argument("--seed", type=int, default=0, help="of split and learner (%(default)s)")
    sub.add_argument(
        "--as-given", action="store_true",
        help="take the successes for predictions, though there is a text to learn from",
    )  # fmt: skip
    sub.add_argument(
        "--price-of", action="append", default=[], metavar="NAME=IN/OUT[/REQUEST]",
        help="of a model of a RUN, in USD per million tokens; local models are free",
    )  # fmt: skip
    sub.add_argument(
        "--references", action="append", default=[], type=Path, metavar="FILE",
        help="right answers to the queries of FrugalGPT's database (CSV)",
    )  # fmt: skip
    sub.add_argument("--table", type=Path, metavar="FILE", help="write that database as a table")
    sub.add_argument("--metric", default="precision", help="of a RUN's judges (%(default)s)")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--out", metavar="DIR", default="understudy-route", help="%(default)s")


def route(arguments: argparse.Namespace) -> int:
    """Route a table or runs, or reproduce a published table; returns the exit code."""
    overrides = [text for text in arguments.what if "=" in text and not Path(text).exists()]
    out = Path(arguments.out).expanduser()
    if overrides:
        if odd := [text for text in arguments.what if text not in overrides]:
            raise BadInput(f"{odd[0]} and {overrides[0]}: give data or runs, or KEY=VALUE")
        return _study(overrides, out)
    from understudy.report.page import load_analysis
    from understudy.routing import allocate, output

    if not 0 <= arguments.seed < 2**32:
        raise BadInput(f"--seed={arguments.seed} is no seed: give 0 to 4294967295")
    outcomes = _outcomes(arguments)
    if arguments.table is not None:
        return _convert(outcomes, arguments)
    goal = _goal(arguments)
    if outcomes.text is None or arguments.as_given:
        allocation = allocate.of_table(outcomes, goal, arguments.solver)
    elif arguments.solver != "exact":
        raise BadInput(f"--solver={arguments.solver} is for a table that is taken --as-given")
    else:
        options = (arguments.delta, arguments.held_out, arguments.learner, arguments.seed)
        allocation = allocate.learn(outcomes, goal, *options)
    summary = output.write(allocation, outcomes, goal, out)
    load_analysis().fig_routing(summary["picture"], out / "routing.svg", summary["rehearsal"])
    _show(summary, allocation, outcomes)
    print(f"written: {out}")
    return 0


def _goal(arguments: argparse.Namespace) -> "Goal":
    from understudy.routing.allocate import Goal

    for kind in ("budget", "accuracy", "price"):
        if (value := getattr(arguments, kind)) is not None:
            return Goal(kind, value)
    return Goal()


def _outcomes(arguments: argparse.Namespace) -> "Outcomes":
    """The table of a file, or that of runs."""
    from understudy.config.compose import runs_root
    from understudy.pipeline.record import find_run
    from understudy.routing import costs, data, frugalgpt, migration

    files = [Path(text) for text in arguments.what if Path(text).is_file()]
    files = [path for path in files if path.name != "run.json"]
    if files:
        if len(arguments.what) > 1:
            raise BadInput(f"{', '.join(arguments.what)}: give one file, or runs")
        if arguments.price_of:
            raise BadInput("--price-of is for runs; a table brings its costs")
        if frugalgpt.is_database(files[0]):
            return frugalgpt.read(files[0], arguments.references)
        if arguments.references or arguments.table:
            raise BadInput(
                f"{files[0]} is no SQLite database: --references and --table are for one"
            )
        return data.read(files[0])
    if arguments.references or arguments.table:
        raise BadInput("--references and --table are for a database, and none is given")
    for text in arguments.what:
        if Path(text).suffix in (".csv", ".parquet"):
            raise BadInput(f"{text} does not exist; give a CSV or parquet file, or runs")
    root = runs_root(arguments.root)
    runs = [find_run(root, name) for name in arguments.what]
    prices = dict(costs.parse_price(text) for text in arguments.price_of)
    return migration.outcomes(runs, prices, arguments.metric)


def _convert(outcomes: "Outcomes", arguments: argparse.Namespace) -> int:
    """Write a released database as a table, and account for its rows."""
    from understudy.routing import frugalgpt

    frugalgpt.write_table(outcomes, arguments.table.expanduser())
    for note in outcomes.notes:
        print(note)
    print(f"written: {arguments.table}")
    return 0


def _show(summary: dict[str, Any], allocation: "Routed", outcomes: "Outcomes") -> None:
    """Print the plan, how sure it is, and what to mind."""
    if summary["rehearsal"]:
        print("REHEARSAL: offline stand-ins were asked, no LLM")
    band, proof, promise = summary["band"], summary["certificate"], summary["promise"]
    expected = ""
    if summary["accuracy"] is not None:  # corrected by the held-out labels
        expected = f"expected accuracy {band['expected']:.4f}; "
    print(
        f"{summary['queries']:,} queries for {summary['cost']:.6g} USD, {expected}"
        f"price {summary['price']:.6g} successes per USD"
    )
    shares = sorted(summary["share"].items(), key=lambda item: -item[1])
    print("to: " + ", ".join(f"{llm} {share:.1%}" for llm, share in shares if share))
    print(
        f"certificate: no assignment has a better {proof['quantity']} than {proof['bound']:.6g} by "
        f"this table; the plan is {proof['gap']:.2g} away, one step is {proof['step']:.2g}"
    )
    if band is None:
        print("realised accuracy: not known, the held-out labels are of fewer than 20 groups")
    else:
        print(
            f"realised accuracy: between {band['low']:.4f} and {band['high']:.4f} "
            f"({band['confidence']:.0%})"
        )
    if promise is not None:
        print(f"promise: {promise['sentence']}")
    if summary["differentiation"] is not None:
        print(f"anything to route? {summary['differentiation']['sentence']}")
    if (quality := summary["quality"]) is not None:
        print(
            f"predictor: {quality['learner']} on {quality['labels']:,} labels, Brier "
            f"{_or_dash(quality['brier'])} (means alone {_or_dash(quality['brier_of_means'])}), "
            f"ECE {_or_dash(quality['ece'])}"
        )
    if (realised := summary["realised"]) is not None:
        print(
            f"held-out labels, which nothing was fitted on: accuracy {realised['accuracy']:.4f} "
            f"for {realised['cost']:.6g} USD"
        )
    for note in summary["notes"]:
        print(f"note: {note}", file=sys.stderr)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _study(overrides: list[str], out: Path) -> int:
    """Reproduce a published table: `study.json`, the table in three formats, the figure."""
    from understudy.config.compose import Composer
    from understudy.report.page import load_analysis
    from understudy.routing import study
    from understudy.store.artifacts import write_atomically

    chosen = study.build(Composer(None).values(overrides))
    outcomes = chosen.load()
    rows = []
    for row in study.run(outcomes, chosen.splits, chosen.seeds, chosen.share, chosen.learner):
        rows.append(row)
        saving = "never reaches it" if row.saving != row.saving else f"saves {row.saving:.1%}"
        print(
            f"{row.split}, {row.router}, seed {row.seed}: {saving} ({row.seconds:.0f} s)",
            file=sys.stderr,
        )
    if not rows:
        raise BadInput("routing.seeds asks for no seed at all, or routing.splits for no split")
    document = study.document(chosen, outcomes, rows)
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{chosen.dataset}.json"
    write_atomically(file, json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(load_analysis().table_routing(file))
    load_analysis().fig_routing(document["picture"], file.with_suffix(".svg"))
    print(f"written: {out}")
    return 0
