"""Spans and log records of OpenTelemetry's GenAI conventions, plain or in the envelopes of OTLP.

A collector's file exporter writes a batch a line: `resourceSpans`, `scopeSpans`, `spans`, and
`resourceLogs`, `scopeLogs`, `logRecords` (opentelemetry.io/docs/specs/otlp, "JSON Protobuf"). By
the age of the convention (opentelemetry.io/docs/specs/semconv/gen-ai) prompt and answer stand in

attributes  `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.system_instructions` of the
            span, or of an event `gen_ai.client.inference.operation.details`
events      `gen_ai.user.message`, …, `gen_ai.choice`: of the span, or log records with its ids;
            their fields are attributes, the body, or the JSON in `gen_ai.event.content`
contents    `gen_ai.prompt`, `gen_ai.completion` of the events `gen_ai.content.…`, or of the span
numbers     `gen_ai.prompt.0.role`, `gen_ai.prompt.0.content`, … as OpenLLMetry writes them
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from understudy.collect.langfuse import loaded
from understudy.data.rejects import NotWanted
from understudy.services.providers import dialogue, log
from understudy.services.providers.log import Values

ENVELOPES = {  # of a batch, of a scope, of its records; the first as the older OTLP had it, too
    "resourceSpans": ("scopeSpans", "instrumentationLibrarySpans", "spans"),
    "resourceLogs": ("scopeLogs", "instrumentationLibraryLogs", "logRecords"),
}
_INPUT, _OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
_SYSTEM = "gen_ai.system_instructions"
_DETAILS = "gen_ai.client.inference.operation.details"
_TURN = re.compile(r"gen_ai\.(system|user|assistant|tool)\.message")
_NUMBERED = re.compile(r"gen_ai\.(prompt|completion)\.(\d+)\.(.+)")
_GENERATIONS = ("chat", "generate_content", "text_completion")
_ENDS = {
    **{"length": log.CUT_OFF, "max_tokens": log.CUT_OFF},
    **{"content_filter": log.REFUSED, "error": log.FAILED},
}
_CALL = re.compile(r"tool_calls\.(\d+)\.(?:function\.)?(\w+)")


class SpanTexts(NamedTuple):
    """What a span says of its exchange; None where it is silent."""

    asked: Any
    made: Any
    ends: list[str]


def records(values: Values) -> list[Values] | None:
    """Return the spans or log records of an envelope of OTLP; None for what is no envelope."""
    for name, (scope, older, below) in ENVELOPES.items():
        if isinstance(batch := values.get(name), list):
            return [
                {"resource": _mapping(part.get("resource"))} | record
                for part in batch
                if isinstance(part, dict)
                for scoped in part.get(scope) or part.get(older) or ()
                if isinstance(scoped, dict)
                for record in scoped.get(below) or ()
                if isinstance(record, dict)
            ]
    return None


def is_traced(values: Values) -> bool:
    """Whether this is a span or a log record with anything of the GenAI conventions."""
    names = [*attributes(values), *(name for name, _ in _events(values))]
    return any(name.startswith("gen_ai.") for name in names)


def attributes(record: Values) -> Values:
    """Return the attributes of a record, which OTLP writes as a list of keys and typed values."""
    found = loaded(record.get("attributes"))
    if isinstance(found, list):
        pairs = (item for item in found if isinstance(item, dict))
        return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs}
    return found if isinstance(found, dict) else record


def waits_for(values: Values) -> str | None:
    """Return the ids of the span that a record is a part of; None where it needs no other."""
    context = _mapping(values.get("context"))
    trace, span = (
        values.get(names[0]) or values.get(names[1]) or context.get(names[1])
        for names in (("traceId", "trace_id"), ("spanId", "span_id"))
    )
    if not (trace and span and is_traced(values)):
        return None
    said = heard(values)
    return None if said.asked and said.made else f"{trace}:{span}"


def merged(parts: Sequence[Values]) -> Values:
    """Return one record of the records of one span: its attributes, and the events of all."""
    spans = [part for part in parts if not _is_log(part)]
    events = [
        {"name": name, "attributes": fields} for part in parts for name, fields in _events(part)
    ]
    first = spans[0] if spans else parts[0]
    own = attributes(first) if spans else {}
    return first | {"attributes": own, "events": events, "body": None, "eventName": None}


def heard(record: Values) -> SpanTexts:
    """Return the prompt and the answer of a record, by the first convention that it follows."""
    span, events = attributes(record), _events(record)
    for where in (span, *(fields for name, fields in events if name == _DETAILS)):
        if where.get(_INPUT) or where.get(_OUTPUT):
            return _of_attributes(where)
    turns, choices = list[Values](), list[Values]()
    for name, fields in events:
        if turn := _TURN.fullmatch(name):
            turns.append({"role": turn[1]} | fields)
        elif name == "gen_ai.choice":
            choices.append(fields)
    if turns or choices:
        ends = [str(fields.get("finish_reason", "")) for fields in choices]
        return SpanTexts(turns, [_message(fields) for fields in choices], ends)
    places = [span, *(fields for _, fields in events)]
    asked, made = (
        next((place[name] for place in places if place.get(name)), None)
        for name in ("gen_ai.prompt", "gen_ai.completion")
    )
    return SpanTexts(asked, made, []) if asked or made else _of_numbers(span)


def check(record: Values, said: SpanTexts) -> None:
    """Raise NotWanted where a record is no generation that ended well."""
    span = attributes(record)
    if not is_traced(record):
        raise NotWanted("not a generation but a step around it")
    status = _mapping(record.get("status"))
    code = status.get("code", status.get("status_code"))
    if span.get("error.type") or code in (2, "ERROR", "STATUS_CODE_ERROR"):
        raise NotWanted(log.FAILED)
    if span.get("gen_ai.operation.name", "chat") not in _GENERATIONS:
        raise NotWanted("not a generation but a step around it")
    if len(turns := _turns(said.made)) > 1 and all(map(_answers, turns)):
        raise NotWanted(log.SEVERAL)
    if why := _ENDS.get(said.ends[-1] if said.ends else ""):
        raise NotWanted(why)


def _of_attributes(where: Values) -> SpanTexts:
    asked, system = loaded(where.get(_INPUT)), loaded(where.get(_SYSTEM))
    if system and isinstance(asked, list):
        parts = [{"type": "text", "content": system}] if isinstance(system, str) else system
        asked = [{"role": "system", "parts": parts}, *asked]
    turns = _turns(where.get(_OUTPUT))
    return SpanTexts(
        asked, where.get(_OUTPUT), [str(turn.get("finish_reason", "")) for turn in turns]
    )


def _of_numbers(span: Values) -> SpanTexts:
    sides: dict[str, dict[int, Values]] = {"prompt": {}, "completion": {}}
    for name, value in span.items():
        if found := _NUMBERED.fullmatch(name):
            turn = sides[found[1]].setdefault(int(found[2]), {})
            if call := _CALL.fullmatch(found[3]):
                turn.setdefault("tool_calls", {}).setdefault(int(call[1]), {})[call[2]] = value
            else:
                turn[found[3]] = value
    for turn in (*sides["prompt"].values(), *sides["completion"].values()):
        if calls := turn.get("tool_calls"):
            turn["tool_calls"] = [calls[n] for n in sorted(calls)]
    asked, made = ([turns[n] for n in sorted(turns)] for turns in sides.values())
    made = [{"role": "assistant"} | turn for turn in made]
    return SpanTexts(asked, made, [str(turn.get("finish_reason", "")) for turn in made])


def _message(fields: Values) -> Any:
    """The message of a choice, whose fields may stand beside its index."""
    message = loaded(fields.get("message"))
    if isinstance(message, str):
        message = {"content": message}
    return {"role": "assistant"} | (message if isinstance(message, dict) else fields)


def _turns(made: Any) -> list[Values]:
    made = loaded(made)
    return [turn for turn in made if isinstance(turn, dict)] if isinstance(made, list) else []


def _answers(turn: Values) -> bool:
    return turn.get("role", "assistant") == "assistant" and not dialogue.has_tool_call(turn)


def _events(record: Values) -> list[tuple[str, Values]]:
    """The names and fields of a record's events; a log record is one."""
    if _is_log(record):
        return [_event(record)]
    listed = loaded(record.get("events")) or loaded(attributes(record).get("events"))
    if not isinstance(listed, list):
        return []
    return [_event(item) for item in listed if isinstance(item, dict)]


def _event(item: Values) -> tuple[str, Values]:
    fields = attributes(item)
    body = loaded(_value(item["body"]) if isinstance(item.get("body"), dict) else item.get("body"))
    if isinstance(body, str):
        fields = fields | {"content": body}
    for more in (body, loaded(fields.get("gen_ai.event.content"))):
        if isinstance(more, dict):
            fields = fields | more
    names = (item.get("name"), item.get("eventName"), fields.get("event.name"))
    found = (name for name in names if isinstance(name, str) and name.startswith("gen_ai."))
    # An answer that is JSON stays text.
    read = {name: value if name == "content" else loaded(value) for name, value in fields.items()}
    return next(found, ""), read


def _is_log(record: Values) -> bool:
    return record.get("body") is not None or bool(record.get("eventName"))


def _value(value: Any) -> Any:
    """A typed value of OTLP as what it means; other values as they are."""
    if not isinstance(value, dict):
        return value
    if isinstance(listed := value.get("arrayValue"), dict):
        return [_value(item) for item in dialogue.listed(listed.get("values"), "values")]
    if isinstance(pairs := value.get("kvlistValue"), dict):
        return dict(_pairs(dialogue.listed(pairs.get("values"), "values")))
    if len(value) == 1 and next(iter(value)).endswith("Value"):
        return next(iter(value.values()))
    return value


def _pairs(items: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for item in items:
        if isinstance(item, dict):
            yield str(item.get("key")), _value(item.get("value"))


def _mapping(value: Any) -> Values:
    return value if isinstance(value, dict) else {}
