"""A block of lines → rows; runs in any process and knows nothing of other blocks."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from understudy.collect import fields, opentelemetry, redact, rules, talks
from understudy.collect.formats import FORMATS, Format, recognise, records
from understudy.collect.rules import Rules
from understudy.collect.waiting import Half
from understudy.data import formats, naming
from understudy.data.reading import Block, parsed
from understudy.data.rejects import BadRow, NotWanted
from understudy.records import dumps, last_question
from understudy.services.providers import dialogue, log
from understudy.services.providers.log import LoggedExchange, Values, find, join, unwrap

_BODIES = ("response", "response_body", "responseBody")
_THINKS_BY = 20  # characters of an answer
NAMED = 20  # broken lines that are named; the rest is counted
_TERMS = {  # how the names of a service's models begin -> whose terms of use their output is under
    **dict.fromkeys(("gpt-", "chatgpt-", "o1", "o3", "o4", "ft:gpt-", "text-davinci"), "OpenAI"),
    **{"claude": "Anthropic", "gemini": "Google"},
}


@dataclass(frozen=True)
class CollectOptions:
    """What to keep of an exchange, and how."""

    rules: Rules = field(default_factory=Rules)
    redact: tuple[str, ...] = redact.CHOICES
    licence: str | None = None
    group: str | None = None


class CollectedRow(NamedTuple):
    """A row of the file to be, and what the summary counts of it."""

    digest: bytes  # of the conversation
    system: bytes | None
    group: bytes | None
    task: str
    licence: str | None
    redacted: dict[str, int]
    begins: tuple[int, ...]  # how its conversation begins, where it has no group
    is_step: bool  # a call on the way to the answer that the log holds
    line: bytes


@dataclass
class Done:
    """What became of a block."""

    lines: int = 0
    rows: list[CollectedRow] = field(default_factory=list)
    halves: list[Half] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)  # rows kept with less than the log has
    unread: Counter[str] = field(default_factory=Counter)  # lines, by a field that nobody knows
    broken: int = 0
    named: list[str] = field(default_factory=list)

    def add_broken(self, sentence: str) -> None:
        """Count a line that cannot be used, and name the first ones."""
        self.broken += 1
        if len(self.named) < NAMED:
            self.named.append(sentence)


def of_block(block: Block, name: str, settings: CollectOptions, is_told: bool = False) -> Done:
    """The rows of a block of a file of format `name`, and the halves that wait for another line.

    `is_told` says that the user gave the format, so that no line is of another.
    """
    done, form = Done(), FORMATS[name]
    known = fields.known(form.group_names, settings.rules, settings.group)
    for raw in block.rows():
        if raw.values is None:
            done.lines += 1
            done.add_broken(f"{raw.place} {raw.problem}")
            continue
        for values in records(raw.values):
            done.lines += 1
            try:
                if not known.issuperset(values):
                    done.unread.update(values.keys() - known)
                exchange, own = _whole(values, form, raw.place, done, is_told)
                if own.name in ("messages", "pairs"):
                    told = fields.named(settings.rules, settings.group)
                    done.unread.update(set(fields.beside(values, own.name)) - told)
                if exchange is not None:
                    done.rows += rows(exchange, own, settings, done.changed)
            except NotWanted as reason:
                done.skipped[str(reason)] += 1
            except BadRow as reason:
                done.add_broken(f"{raw.place} {reason}")
    return done


def of_groups(groups: list[list[Half]], settings: CollectOptions) -> Done:
    """Return the rows of exchanges whose lines have been brought together."""
    done = Done()
    for group in groups:
        try:
            form = FORMATS[group[-1].format]
            held = [(parsed(half.line, half.place).values or {}, half.format) for half in group]
            if form.read is not None:  # parts of one span
                exchange = form.read(opentelemetry.merged([values for values, _ in held]))
            else:
                exchange = join(
                    [
                        (unwrap(values, dialect), dialect)
                        for values, name in held
                        if (dialect := FORMATS[name].dialect) is not None
                    ]
                )
            done.rows += rows(exchange, form, settings, done.changed)
        except NotWanted as reason:
            done.skipped[str(reason)] += 1
        except BadRow as reason:
            done.add_broken(f"{group[0].place} {reason}")
    return done


def rows(
    exchange: LoggedExchange, form: Format, settings: CollectOptions, changed: Counter[str]
) -> list[CollectedRow]:
    """Return the row of an exchange, after those of the steps that led to its answer.

    A step is a turn of the assistant that calls tools for the question that the answer is to; where
    the log holds the step as an exchange of its own, too, the second row is a duplicate. NotWanted
    says why there is no row.
    """
    messages = exchange.messages
    if not any("tool_calls" in turn for turn in messages[:-1]):  # as in most
        return [row(exchange, form, settings, changed)]
    first = len(messages) - len(last_question(messages))
    steps = [n for n in range(first, len(messages) - 1) if messages[n].get("tool_calls")]
    whole = row(exchange, form, settings, changed)
    parts = (exchange._replace(messages=messages[: n + 1]) for n in steps)
    made = [row(part, form, settings, Counter())._replace(is_step=True) for part in parts]
    return [*made, whole]


def row(
    exchange: LoggedExchange, form: Format, settings: CollectOptions, changed: Counter[str]
) -> CollectedRow:
    """Return the row of an exchange; NotWanted says why there is none."""
    exchange = _without_thoughts(exchange, changed)
    try:
        messages = formats.checked(exchange.messages)
    except BadRow as reason:  # whole, but no conversation to learn from
        raise NotWanted(str(reason)) from None
    rules.check(settings.rules, exchange)
    task = rules.task_of(settings.rules, exchange)
    if exchange.left:
        changed.update(exchange.left)
    redacted: dict[str, int] = {}
    tools = exchange.tools
    if settings.redact:
        messages, tools = redact.redact_row(messages, tools, settings.redact, redacted)
    digest = naming.digest(messages, tools, exchange.response_format)
    group = _group(exchange, form, settings)
    licence = settings.licence or _licence(exchange, form)
    document: dict[str, Any] = {
        "id": f"{digest[:8].hex()}-0",  # as data/naming.py names rows; no row comes twice
        "group_id": group,
        "messages": messages,
        "task": task,
        "licence": licence,
        "source": _source(exchange, form),
        "split": None,
    }
    document |= {"tools": tools} if tools else {}
    document |= {"response_format": form_asked} if (form_asked := exchange.response_format) else {}
    try:
        line = dumps(document).encode() + b"\n"
    except UnicodeEncodeError:
        raise BadRow("has half a surrogate pair, which is no text") from None
    system = messages[0]["content"] if messages[0]["role"] == "system" else None
    return CollectedRow(
        digest=digest[:16],
        system=None if system is None else _short(system),
        group=None if group is None else _short(group),
        task=task,
        licence=licence,
        redacted=redacted,
        begins=talks.beginnings(messages) if group is None else (),
        is_step=False,
        line=line,
    )


def _source(exchange: LoggedExchange, form: Format) -> str:
    """Where a row is from; of a gateway before stand-ins, that no LLM has answered."""
    marks = (fact.get("metadata") for fact in exchange.facts)
    is_rehearsal = any(isinstance(mark, dict) and mark.get("rehearsal") is True for mark in marks)
    source = f"{form.name}:{exchange.model}" if exchange.model else form.name
    return f"rehearsal:{source}" if is_rehearsal else source


def _without_thoughts(exchange: LoggedExchange, changed: Counter[str]) -> LoggedExchange:
    """The exchange without what a model thought before it spoke, as open models write it."""
    messages, answer = exchange.messages, exchange.messages[-1]["content"] or ""
    if "<think>" not in answer[:_THINKS_BY] and "</think>" not in answer:
        return exchange
    thoughts, end, said = answer.rpartition("</think>")
    if not end or not (said.strip() or "tool_calls" in messages[-1]):
        raise NotWanted("thoughts without an answer")
    if "<think>" in thoughts and thoughts[: thoughts.index("<think>")].strip():
        return exchange  # an answer about such tags
    changed["thoughts taken out of the answer"] += 1
    turn = dialogue.answered(said.strip(), messages[-1].get("tool_calls", ()))
    return exchange._replace(messages=[*messages[:-1], turn])


def _whole(
    values: Values, form: Format, place: str, done: Done, is_told: bool
) -> tuple[LoggedExchange | None, Format]:
    """The exchange of a line, and its format; no exchange when a half was put aside.

    A proxy in front of several services writes all their formats into one file, so a line that
    holds nothing of the file's format is looked at for itself, unless the user told the format.
    """
    if form.dialect is None:
        assert form.read is not None, f"{form.name} has neither dialect nor reader"
        if form.name == "opentelemetry" and (key := opentelemetry.waits_for(values)):
            line = json.dumps(values, default=str).encode()
            done.halves.append(Half(form.name, place, line, key, None, True))
            return None, form
        try:
            return form.read(values), form
        except BadRow:
            other = None if is_told else recognise(values)
            if other in (None, form):
                raise
            return _whole(values, other, place, done, True)
    own: Format | None = form
    try:
        envelope = unwrap(values, form.dialect)
    except BadRow:
        own = None if is_told else recognise(values)
        if own is None and not is_told and any(isinstance(values.get(n), dict) for n in _BODIES):
            raise NotWanted(log.OTHER_CALL) from None
        if own in (None, form):
            raise
    else:
        if envelope.is_odd and not is_told:
            own = recognise(values)
    if own is not None and own is not form:
        return _whole(values, own, place, done, True)
    if envelope.is_whole(form.dialect):
        return join([(envelope, form.dialect)]), form
    line = json.dumps(values, default=str).encode()  # parquet knows dates
    asks = envelope.request is not None
    done.halves.append(Half(form.name, place, line, envelope.key, envelope.answer_id, asks))
    return None, form


def _group(exchange: LoggedExchange, form: Format, settings: CollectOptions) -> str | None:
    """The id of the user or conversation; hashed where data is redacted: it may be an address."""
    if settings.group is not None:
        value = find(exchange.facts, settings.group)
    else:
        known: Values = {}
        for fact in reversed(exchange.facts):  # what the first one says counts
            for root in (fact, fact.get("metadata")):
                if isinstance(root, dict):
                    known |= {name: root[name] for name in form.group_names.intersection(root)}
        value = next((known[name] for name in form.groups if _is_id(known.get(name))), None)
    if not _is_id(value):
        return None
    if not settings.redact:
        return str(value)
    return hashlib.sha256(str(value).encode(errors="replace")).hexdigest()[:16]


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and value != "" and not isinstance(value, bool)


def _licence(exchange: LoggedExchange, form: Format) -> str | None:
    """A row's own, else whose terms of use the model's output is under."""
    if form.dialect is None:
        for name in formats.USUAL["licence"]:
            if isinstance(found := find(exchange.facts[:1], name), str) and found:
                return found
    whose = _terms(exchange.model or "") or exchange.terms
    return f"terms of use of {whose}" if whose else None


@lru_cache(maxsize=1024)
def _terms(model: str) -> str | None:
    name = model.rpartition("/")[2]
    return next((whose for start, whose in _TERMS.items() if name.startswith(start)), None)


def _short(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
