"""The verb `collect`: logs of a service → a coverage file, which `coverage=file` reads."""

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.cli.table import table
from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.collect.collect import Summary
    from understudy.collect.work import CollectOptions

_HELP = "make a coverage file out of the logs of a service"
_FORMATS = (
    *("openai-chat", "openai-responses", "anthropic", "gemini"),
    *("langfuse", "bedrock", "langsmith", "tensorzero", "opentelemetry", "messages", "pairs"),
)
_REDACT = ("key", "email", "iban", "card", "ip", "phone")
_UNREAD = 20  # fields that are named
_MOST_JOBS = 8  # one process writes, and keeps up with no more
_EXAMPLES = f"""Formats, told from the first lines of each file: {", ".join(_FORMATS)}.
Requests with responses, batch input together with batch output, stored completions, and logs of
streamed chunks are all read; JSON lines, JSON, CSV (each also .gz), parquet, `-` for stdin.

A FIELD is a dotted path in the line, the request or the response, or in their metadata:
rating, scores.helpfulness, metadata.team, usage.total_tokens.

examples:
  understudy collect log.jsonl --out coverage.jsonl
  understudy collect batch_in.jsonl batch_out.jsonl --out coverage.jsonl --model 'gpt-4o*'
  understudy collect export.csv --out c.jsonl --rating 'scores.quality>=0.8' --task-from tags
  zcat *.gz | understudy collect - --out c.jsonl --task-rule 'summarize=(?i)summari[sz]e'

Answers that are cut off or refused are skipped, and counted. Tool calls stay, with the tools that
were offered, each turn of the assistant as a row. Each conversation is kept
once. Redaction finds forms (an e-mail address, a key), not meaning: names stay. Ids of users and
conversations, by which the split is drawn, are hashed unless --redact none.
"""


def register(verbs: Any) -> None:
    """Add `collect` to the verbs."""
    sub = verbs.add_parser(
        "collect",
        help=_HELP,
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(verb=_collect)
    sub.add_argument("logs", nargs="+", metavar="LOG", help="files, or - for standard input")
    sub.add_argument("--out", metavar="FILE", required=True, help="ends in .jsonl or .jsonl.gz")
    sub.add_argument("--force", action="store_true", help="overwrite FILE")
    sub.add_argument("--format", choices=_FORMATS, help="of all files; default: told from each")
    kept = sub.add_argument_group("which answers were satisfactory (all rules must hold)")
    kept.add_argument("--rating", action="append", default=[], metavar="FIELD>=N")
    kept.add_argument("--flag", action="append", default=[], metavar="FIELD[=VALUE]")
    kept.add_argument("--match", action="append", default=[], metavar="REGEX", help="in the answer")
    kept.add_argument("--reject", action="append", default=[], metavar="REGEX", help="not in it")
    kept.add_argument("--model", action="append", default=[], metavar="GLOB", help="any of these")
    task = sub.add_argument_group("which task they are of (the first that fits)")
    task.add_argument("--task-from", metavar="FIELD[=REGEX]", help="a tag that matches wholly")
    task.add_argument(
        "--task-rule", action="append", default=[], metavar="NAME=REGEX", help="in the prompt"
    )
    task.add_argument("--task", default="other", metavar="NAME", help="of the rest (%(default)s)")
    sub.add_argument(
        "--redact", default="all", metavar="KINDS", help=f"all, none or some of {','.join(_REDACT)}"
    )
    sub.add_argument("--licence", metavar="TEXT", help="of all rows; default: whose terms apply")
    sub.add_argument("--group", metavar="FIELD", help="user or conversation; default: usual names")
    sub.add_argument(
        "--max-broken", default="1%", metavar="SHARE", help="of lines to skip (%(default)s)"
    )
    sub.add_argument("--jobs", type=int, metavar="N", help="processes; default: one per core")


def _collect(arguments: argparse.Namespace) -> None:
    from understudy.collect.collect import collect

    out = Path(arguments.out).expanduser()
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"--out {arguments.out}: give a name that ends in .jsonl or .jsonl.gz")
    if out.is_dir():
        raise BadInput(f"--out {arguments.out} is a directory; give the name of a file")
    if out.exists() and not arguments.force:
        raise BadInput(f"--out {arguments.out} is there already; give another name, or --force")
    logs = [text if text == "-" else str(Path(text).expanduser()) for text in arguments.logs]
    if twice := next((log for log in logs if logs.count(log) > 1), None):
        raise BadInput(f"{twice} is given twice")
    if any(log != "-" and Path(log).resolve() == out.resolve() for log in logs):
        raise BadInput(f"--out {arguments.out} is one of the logs; give another name")
    cores = len(os.sched_getaffinity(0))
    jobs = min(cores, _MOST_JOBS) if arguments.jobs is None else arguments.jobs
    if not 1 <= jobs <= 64:
        raise BadInput(f"--jobs {arguments.jobs}: give 1 to 64")
    settings = _settings(arguments)
    max_broken = _share(arguments.max_broken)
    with _progress(logs) as advance:
        summary = collect(
            logs,
            out,
            settings,
            form=arguments.format,
            jobs=jobs,
            max_broken=max_broken,
            advance=lambda count: advance(count / 1e6),
        )
    for sentence in summary.named:
        print(f"skipped: {sentence}", file=sys.stderr)
    if summary.broken > len(summary.named):
        print(f"skipped: {summary.broken - len(summary.named):,} more", file=sys.stderr)
    _show(summary, settings, out)


def _settings(arguments: argparse.Namespace) -> "CollectOptions":
    from understudy.collect import rules
    from understudy.collect.work import CollectOptions

    from_field = arguments.task_from
    return CollectOptions(
        rules=rules.Rules(
            ratings=tuple(map(rules.parse_rating, arguments.rating)),
            flags=tuple(map(rules.parse_flag, arguments.flag)),
            matches=tuple(rules.pattern_of("--match", text) for text in arguments.match),
            rejects=tuple(rules.pattern_of("--reject", text) for text in arguments.reject),
            models=tuple(arguments.model),
            task_field=None if from_field is None else rules.parse_task_field(from_field),
            task_rules=tuple(map(rules.parse_task_rule, arguments.task_rule)),
            task=arguments.task,
        ),
        redact=_kinds(arguments.redact),
        licence=arguments.licence,
        group=arguments.group,
    )


def _kinds(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return _REDACT if text == "all" else ()
    kinds = tuple(kind.strip() for kind in text.split(","))
    if odd := [kind for kind in kinds if kind not in _REDACT]:
        raise BadInput(f"--redact {odd[0]!r} is none of all, none, {', '.join(_REDACT)}")
    return kinds


def _share(text: str) -> float:
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise BadInput(f"--max-broken {text!r}: give a share, as 1% or 0.01")
    return share


def _progress(logs: list[str]) -> AbstractContextManager[Any]:
    """A bar of the megabytes read; none where their number is not known."""
    from understudy.data.reading import size_of
    from understudy.store.progress import track

    if "-" in logs or not sys.stderr.isatty():
        return nullcontext(lambda count: None)
    megabytes = sum(size_of(log) for log in logs) / 1e6
    return track("collect", max(1, round(megabytes)), "MB")


def _show(summary: "Summary", settings: "CollectOptions", out: Path) -> None:
    """Print what became of the lines, and how to use the file."""
    from understudy.config.command_line import command, override

    rows = [(f"format of {path}", name) for path, name in summary.formats.items()]
    rows.append(("lines read", f"{summary.lines:,}"))
    if summary.joined:
        rows.append(("  of which parts of an exchange", f"{summary.joined:,}"))
    rows.append(("rows kept", f"{summary.kept:,}"))
    if summary.steps:
        rows.append(("  of which calls on the way to an answer", f"{summary.steps:,}"))
    rows.append(("duplicates", f"{summary.duplicates:,}"))
    rows.append(("broken lines", f"{summary.broken:,}"))
    rows += [(f"skipped: {why}", f"{count:,}") for why, count in summary.skipped.most_common()]
    rows += [(f"changed: {what}", f"{count:,}") for what, count in summary.changed.items()]
    for field, count in summary.unread.most_common(_UNREAD):
        shown = field if field.isprintable() else ascii(field)
        rows.append(
            (f"not read: {shown[:60]}", f"{count:,} ({count / summary.lines:.0%} of lines)")
        )
    if (more := len(summary.unread) - _UNREAD) > 0:
        rows.append((f"not read: {more:,} more fields", ""))
    counts = {kind: summary.redacted[kind] for kind in settings.redact}
    rows += [(f"redacted: {kind}", f"{count:,}") for kind, count in counts.items()]
    rows += [(f"task {name}", f"{count:,}") for name, count in summary.tasks.most_common(20)]
    if more := len(summary.tasks) - 20:
        rows += [(f"{more:,} more tasks", "")] if more > 0 else []
    for name, count in summary.licences.most_common(5):
        rows.append((f"licence: {name or 'not known (--licence)'}", f"{count:,}"))
    rows.append(("rows with a system prompt", f"{summary.with_system:,}"))
    rows.append(("  distinct ones", f"{summary.systems:,}"))
    rows.append(("groups (users or conversations)", f"{summary.groups:,}"))
    rows.append(("rows without one", f"{summary.ungrouped:,}"))
    print(table(("what", "number"), rows))
    if summary.largest_group > summary.kept / 2 and summary.groups:
        print(
            f"note: one group holds {summary.largest_group:,} of {summary.kept:,} rows, and a "
            "split keeps a group together; name a finer field with --group"
        )
    print(f"written: {out}")
    words = ["run", "coverage=file", override("coverage.path", str(out)), "task=NAME"]
    print(f"to use it: {command(*words)}")
    if len(summary.tasks) > 1:
        name = summary.tasks.most_common(1)[0][0]
        words += ["coverage.columns.category=task", override("+coverage.categories.NAME", name)]
        print(f"the rows of one task only: {command(*words)}")
