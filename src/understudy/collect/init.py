"""`understudy init FILE`: look at somebody's file and propose a config for it.

    understudy init tickets.jsonl && understudy run experiment=tickets --config-dir understudy-conf

Reads the file and writes two option files; it calls no model and no service.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from understudy import locations
from understudy.collect import formats as log_formats
from understudy.collect import guesses
from understudy.collect.workload import ProposedGrader, propose_grader
from understudy.config import Config, CoverageConfig, Split, changed
from understudy.config.command_line import command, quoted, without_interpolation
from understudy.config.source import Columns
from understudy.data import coverage, formats
from understudy.data.coverage import Found
from understudy.data.duplicates import clusters
from understudy.data.reading import Raw, read_file
from understudy.errors import BadInput
from understudy.prompts import chat
from understudy.records import SplitName, written
from understudy.store.artifacts import write_atomically

_FIRST_BAD = 5  # shown by name


@dataclass(frozen=True)
class Proposal:
    """What a file holds and what a run on it could look like."""

    path: Path
    found: Found
    characters: list[int]  # per conversation
    tokens: list[int] | None  # the same, where the model's tokenizer is on this machine
    near_duplicates: int  # groups of two rows or more
    task: str
    category: str | None  # the one to keep, where there are several
    split: Split
    columns: dict[str, str]  # to be named, by leaf of coverage.columns
    parts: dict[str, SplitName | None]  # what the file's words for splits mean, where they lack one
    tolerance: float | None  # where more rows are bad than are let pass in silence
    max_length: int | None  # of the trainer, where the configured one would lose many rows
    grader: ProposedGrader | None  # where a rule can score the answers

    @property
    def categories(self) -> Counter[str]:
        """The rows of every category."""
        return Counter(pair.category for pair in self.found.pairs if pair.category is not None)

    @property
    def licences(self) -> Counter[str]:
        """The rows of every licence that the file names."""
        return Counter(pair.licence for pair in self.found.pairs if pair.licence is not None)

    @property
    def rows(self) -> int:
        """The rows that a run would use."""
        return len(self.found.pairs) if self.category is None else self.categories[self.category]


def main(file: str, out: str, force: bool, config: Config) -> int:
    """Look, show, write, and say what to type next; `config` has the model to measure against."""
    proposal = propose(Path(file).expanduser(), config)
    name = _option(proposal.path)
    files = {
        Path(out) / "coverage" / f"{name}.yaml": _coverage_option(proposal),
        Path(out) / "experiment" / f"{name}.yaml": _experiment_option(proposal, name),
    }
    if not force and (there := [str(path) for path in files if path.exists()]):
        raise BadInput(f"{there[0]} exists already; give --force to overwrite it")
    show(proposal, config)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    for path in files:
        print(f"wrote {path}")
    where = (f"--config-dir={out}",) if out.startswith("-") else ("--config-dir", out)
    print(f"next: {command('run', f'experiment={name}', *where)}")
    return 0


def propose(path: Path, config: Config) -> Proposal:
    """Read a file whatever its share of bad rows, and guess what it is for."""
    settings, found = _best(path, config)
    first = clusters([coverage.asked(pair.messages) for pair in found.pairs])
    task, category = guesses.guess_task(
        Counter(p.category for p in found.pairs if p.category), config
    )
    rows = [pair for pair in found.pairs if category in (None, pair.category)]
    splits = {pair.split for pair in rows}
    parts = guesses.propose_parts(path, settings, splits)
    given = set(parts.values()) if parts else splits
    tokens = _tokens(found, config)
    max_length, lost = guesses.propose_length(tokens or [], config)
    # A small part of the rows may lose more than all of them do.
    share = min(1.0, max(len(found.bad) / found.total, 1.5 * lost))
    return Proposal(
        path=path,
        found=found,
        characters=[sum(len(written(turn)) for turn in pair.messages) for pair in found.pairs],
        tokens=tokens,
        near_duplicates=sum(count > 1 for count in Counter(first).values()),
        task=task,
        category=category,
        split=guesses.propose_split(len(rows), given),
        columns={name: value for name, value in vars(settings.columns).items() if value},
        parts=parts,
        tolerance=math.ceil(share * 100) / 100 if share > config.coverage.tolerance else None,
        max_length=max_length,
        grader=propose_grader(
            [written(pair.messages[-1]) for pair in rows],
            [*found.columns.read, *found.columns.aside, *found.columns.unread],
            path.parent,
        ),
    )


def _best(path: Path, config: Config) -> tuple[CoverageConfig, Found]:
    """The first way to read a file that understands most of its rows, else the best one."""
    raws = read_file(path)
    names = formats.columns(raws)
    tried: list[tuple[CoverageConfig, Found]] = []
    error: BadInput | None = None
    for columns in guesses.readings(raws, names):
        settings = dataclasses.replace(
            config.coverage,
            kind="file",
            path=str(path),
            tolerance=1.0,
            categories={},
            licence=None,
            columns=Columns(**columns),
            repo=None,  # this and what follows only a hub data set has
            revision=None,
            subset=None,
            parts=dict.fromkeys(guesses.odd_words(raws, names, str(path))),
        )
        try:
            kind = formats.detect(names, str(path), given=settings.columns)
            more = {
                leaf: name
                for leaf, name in formats.meaningful(raws, kind, settings.columns).items()
                if name not in columns.values()
            }
            settings = changed(settings, {f"columns.{leaf}": name for leaf, name in more.items()})
            tried.append((settings, coverage.find(settings, config.task.name)))
        except BadInput as reason:
            error = error or reason
            _refuse_a_log(path, raws)
            continue
        if 2 * len(tried[-1][1].pairs) > len(raws):
            return _with_passages(tried[-1], raws, config)
    if not tried:
        assert error is not None, "a file that nothing reads has a reason"
        raise error
    return max(tried, key=lambda one: len(one[1].pairs))


def _refuse_a_log(path: Path, raws: Sequence[Raw]) -> None:
    """BadInput where rows that are no data set are calls of a service."""
    first = next((raw.values for raw in raws if raw.values is not None), {})
    if (name := log_formats.logged_as(first)) is not None:
        line = command("collect", "--out", "collected.jsonl", operand=str(path))
        raise BadInput(f"{path} is a log of calls ({name}), not a data set; `{line}` makes one")


def _with_passages(
    best: tuple[CoverageConfig, Found], raws: Sequence[Raw], config: Config
) -> tuple[CoverageConfig, Found]:
    """The same, where a column that nobody reads holds what the prompts are about."""
    settings, found = best
    columns = settings.columns
    if found.format != "pairs" or columns.context is not None:
        return best
    for name in guesses.PASSAGES:
        if 2 * found.columns.unread.get(name, 0) > len(raws):
            settings = changed(settings, {"columns.context": name})
            return settings, coverage.find(settings, config.task.name)
    return best


def _tokens(found: Found, config: Config) -> list[int] | None:
    """The length of every conversation in tokens; nothing is downloaded for it."""
    if config.model.path is None:
        return None
    from jinja2 import TemplateError

    from understudy.models import gguf, load

    load.quiet()
    ready = gguf.dequantized(config, Path(config.paths.root).expanduser())
    tokenizer = load.tokenizer(ready.model)
    lengths = []
    try:
        for pair in found.pairs:
            said = chat.rendered(tokenizer.chat_template, pair.messages, pair.tools)
            ids = tokenizer.apply_chat_template(
                said.messages, tools=said.tools, tokenize=True, return_dict=False
            )
            lengths.append(len(ids))
        return lengths
    except TemplateError as error:  # no system turns, for one
        print(f"the chat template of model={config.model.name} refuses a row: {error}")
        return None


def show(proposal: Proposal, config: Config) -> None:
    """Print what was found."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _facts(proposal, config):
        table.add_row(name, escape(value))
    console.print(table)
    for what, lengths in (("characters", proposal.characters), ("tokens", proposal.tokens)):
        if lengths:
            console.print(f"\n[bold]{what} per conversation[/]")
            console.print("\n".join(histogram(lengths)))


def _facts(proposal: Proposal, config: Config) -> list[tuple[str, str]]:
    found, split, model = proposal.found, proposal.split, config.model
    bad = found.bad[:_FIRST_BAD]
    more = f"\nand {len(found.bad) - len(bad)} more" if len(found.bad) > len(bad) else ""
    if proposal.tokens is None:
        fit = "unknown: its tokenizer is not on this machine, or its template refuses a row"
    else:
        over = [
            sum(tokens > limit for tokens in proposal.tokens)
            for limit in (model.context, config.trainer.max_length)
        ]
        fit = (
            f"{over[0]} rows over its context of {model.context} tokens, {over[1]} over "
            f"trainer.max_length={config.trainer.max_length}"
        )
    return [
        ("file", str(proposal.path)),
        ("format", found.format),
        ("columns read", ", ".join(found.columns.read)),
        *([("taken for", _mapping(proposal.columns))] if proposal.columns else []),
        *_header(proposal),
        ("left aside", ", ".join(found.columns.aside) or "none"),
        (
            "not read",
            ", ".join(
                f"{name} ({count / found.total:.0%} of rows)".replace("%", " %")
                for name, count in found.columns.unread.items()
            )
            or "none",
        ),
        ("rows", f"{found.total}, of which {len(found.pairs)} are coverage"),
        ("not coverage", _counts(found.not_coverage)),
        ("bad rows", "\n".join([str(len(found.bad)), *bad]) + more),
        ("near-duplicates", f"{proposal.near_duplicates} groups; a group is never split"),
        ("licence", _counts(proposal.licences) if proposal.licences else "not given in the file"),
        ("categories", _counts(proposal.categories)),
        ("task", proposal.task + (f", from {proposal.category}" if proposal.category else "")),
        ("grader", _graded_by(proposal.grader)),
        (f"model={model.name}", fit),
        (
            "split",
            f"validation {split.validation:g}, test {split.test:g}, of {proposal.rows} rows; "
            + (
                f"{_lacking(proposal)}: {_shown_parts(proposal.parts)}"
                if proposal.parts
                else "what the file says itself counts first"
            ),
        ),
    ]


def _header(proposal: Proposal) -> list[tuple[str, str]]:
    """The line about a table whose first line may be a row like the others."""
    is_table = {".csv", ".tsv"} & {suffix.casefold() for suffix in proposal.path.suffixes}
    if not is_table or "prompt" not in proposal.columns:
        return []
    words = "taken for the names of the columns; a table without names loses its first row so"
    return [("first line", words)]


def _graded_by(grader: ProposedGrader | None) -> str:
    if grader is None:
        return "none: no rule fits these answers, so a judge has to be asked"
    lacks = "" if grader.is_complete else "; it needs graders.sql.database=FILE.sqlite, so not yet"
    return f"judge={grader.kind}, since {grader.reason}{lacks}"


def _mapping(columns: dict[str, str]) -> str:
    return ", ".join(f"{leaf}: {name}" for leaf, name in columns.items())


def _lacking(proposal: Proposal) -> str:
    """What the file's own words for splits do not say."""
    found = {pair.split for pair in proposal.found.pairs}
    parts = [name for name in ("train", "validation", "test") if name not in found]
    if not parts or None in found:
        return "some words of the file's split column name no split"
    return f"the file's split column names no {' and no '.join(parts)}, so that is drawn"


def _shown_parts(parts: dict[str, SplitName | None]) -> str:
    return ", ".join(
        f"its rows of {word} " + (f"stay {split}" if split else "are divided")
        for word, split in parts.items()
    )


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


def histogram(lengths: list[int], width: int = 40) -> list[str]:
    """A line per doubling of the length: its limits, a bar and the number of rows."""
    bins = Counter(max(length, 1).bit_length() for length in lengths)
    most = max(bins.values())
    return [
        f"{1 << (size - 1):>8,} – {(1 << size) - 1:<9,}"
        f" {'█' * round(width * bins[size] / most):<{width}} {bins[size]:>7,}"
        for size in range(min(bins), max(bins) + 1)
    ]


def _option(path: Path) -> str:
    """The name of the options for a file; never that of an option that ships with understudy."""
    name = re.sub(r"[^a-z0-9]+", "_", path.name.partition(".")[0].casefold()).strip("_") or "data"
    conf = locations.shared("conf")
    taken = [(conf / group / f"{name}.yaml").is_file() for group in ("coverage", "experiment")]
    is_text = quoted(name) == name  # null.jsonl makes no option called null
    return name if is_text and not any(taken) else f"my_{name}"


def _coverage_option(proposal: Proposal) -> str:
    """The option file of the group `coverage`."""
    found, split = proposal.found, proposal.split
    licence = "null         # of rows that do not say; please give it"
    if proposal.licences:
        licence = "null         # every row of the file can say it in its own column"
    lines = [
        f"# {proposal.rows} rows of {_shown(proposal.path)}, as `understudy init` found them",
        "defaults:",
        "  - file",
        "  - _self_",
        f"path: {_yaml(str(proposal.path.absolute()))}",
        f"format: {found.format}",
        f"licence: {licence}",
    ]
    if proposal.columns:
        lines.append("columns:")
        lines += [f"  {leaf}: {_yaml(name)}" for leaf, name in proposal.columns.items()]
    if proposal.parts:
        lines.append("parts:               # the file's words for splits; null = drawn below")
        lines += [f"  {_yaml(word)}: {split or 'null'}" for word, split in proposal.parts.items()]
    if proposal.category is not None:
        lines += ["categories:", f"  {proposal.task}: {_yaml(proposal.category)}"]
    if proposal.grader is not None and proposal.grader.expected:
        lines.append("expected:            # what the grader reads of a row, by its column")
        lines += [f"  {name}: {_yaml(one)}" for name, one in proposal.grader.expected.items()]
    if proposal.tolerance is not None:
        lines.append(f"tolerance: {proposal.tolerance:g}      # share of rows that may be lost")
    lines += [
        "split:               # below 1 a share of all rows, from 1 a number; train is the rest",
        *(f"  {name}: {getattr(split, name):g}" for name in ("validation", "test", "holdout")),
    ]
    return "\n".join(lines) + "\n"


def _shown(path: Path) -> str:
    """A file's name on one line."""
    return path.name if path.name.isprintable() else ascii(path.name)


def _yaml(text: str) -> str:
    """A text as YAML that neither YAML nor Hydra reads anything into."""
    text = without_interpolation(text)
    line = yaml.dump(text, default_style='"', allow_unicode=True, width=math.inf)
    return line.rstrip("\n")


def _experiment_option(proposal: Proposal, name: str) -> str:
    """The option file of the group `experiment`: a first run on the human rows alone."""
    most = proposal.max_length
    length = "" if most is None else f"trainer:\n  max_length: {most}\n"
    grader = proposal.grader
    who, judge, gate = "judged by the offline stand-in", "", ""
    if grader is not None and grader.is_complete:
        who, judge = "graded by a rule", f"\n  - override /judge: {grader.kind}"
        gate = "gate:\n  similarity: 0        # which the grader does not measure\n"
        if grader.database is not None:
            gate += f"graders:\n  sql:\n    database: {_yaml(str(grader.database))}\n"
    return f"""# @package _global_
# {_shown(proposal.path)}: human rows only, {who}, so it costs nothing;
# then choose a judge, a synthesis and a baseline, and drop data_size to climb the ladder
defaults:
  - override /coverage: {name}
  - override /task: {proposal.task}{judge}
  - override /baseline: none
data_size: 0
{gate}{length}run:
  name: {name}
"""
