"""What a row of somebody else's file means: pure functions from its columns to a conversation.

messages   `messages` or `conversations`, a list of {role, content} or, as ShareGPT has it, of
           {from, value}, or its text; the last turn is the assistant's; `system` if there is one.
           Assistants' turns may call tools and `role: tool` turns say what came of it, as OpenAI's
           fine-tuning files, ours and ShareGPT (`function_call`, `observation`) have them; `tools`
           and `response_format` stand beside (data/tools.py). In OpenAI's fine-tuning files a turn
           may have a `weight`, elsewhere `train` or `loss`: 0 or false is not to be learnt, and
           stays `"weight": 0` in our row
pairs      `prompt`, `instruction` or `question` (with an `input`, Dolly's `context` and Alpaca's
           `history`, if any), and `response`, `output`, `completion` or `answer`; `system` if there
           is one. Prompt and response may be lists of messages, as TRL has them. Where a column of
           tools is named, a response that is a JSON list of calls is these calls (BFCL, xLAM)
llamaduo   the published LlamaDuo schema: `generator, prompt_id, seed_prompt, messages, category,
           prompt`; rows whose generator is not "Human" were synthesised
"""

import ast
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from understudy.config.source import Columns
from understudy.data import tools
from understudy.data.reading import Raw
from understudy.data.rejects import BadRow, NotWanted
from understudy.errors import BadInput
from understudy.records import Message, SplitName, Tool, dumps

MESSAGES = ("messages", "conversations")
PROMPTS = ("prompt", "instruction", "question")
RESPONSES = ("response", "output", "completion", "answer")
USUAL = {  # column for -> its usual names, the first one present counts
    "id": ("id", "prompt_id"),
    "group": ("group_id", "conversation_id", "document_id", "user_id"),
    "split": ("split",),
    "licence": ("licence", "license"),
    "category": ("category",),
}
_NAMED = 20  # columns that a warning names
HUMAN = "Human"
USUAL_NAMES = Columns()
_ROLES = {
    **{"system": "system", "developer": "system", "user": "user", "human": "user"},
    **{"assistant": "assistant", "ai": "assistant", "gpt": "assistant", "model": "assistant"},
}
_WEIGHTS = ("weight", "train", "loss")  # of a turn
_LEARNT = {**{"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}}
TOOLS = ("tools", "functions")
OF_TURN = {"role", "from", "content", "value", "parts", "id", "timestamp", "created_at"}
# Known, and no part of a conversation: what `collect` and published sets write beside it.
_ASIDE = {
    *("task", "source", "generator", "seed_prompt", "dataset", "model", "timestamp", "created_at"),
    *("updated_at", "idx", "index", "url"),
}
_SPLITS: dict[str, SplitName] = {
    **{"train": "train", "training": "train", "test": "test", "holdout": "holdout"},
    **{"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"},
}


def columns(rows: Sequence[Raw]) -> list[str]:
    """The column names of a file, in order of appearance; BadInput when no row has any."""
    names = list(dict.fromkeys(name for row in rows for name in row.values or ()))
    if not names:
        raise BadInput(f"{rows[0].place} {rows[0].problem or 'has no column'}")
    return names


def detect(
    names: Collection[str], where: str, wanted: str = "auto", given: Columns = USUAL_NAMES
) -> str:
    """The format of a file with these columns; BadInput when it is none, or not `wanted`."""
    fitting = []
    if any(name in names for name in _names(given.messages, MESSAGES, names)):
        if "generator" in names and ("seed_prompt" in names or "prompt_id" in names):
            fitting.append("llamaduo")
        fitting.append("messages")
    if all(
        any(name in names for name in _names(one, usual, names))
        for one, usual in ((given.prompt, PROMPTS), (given.response, RESPONSES))
    ):
        is_told = given.prompt is not None or given.response is not None
        fitting.insert(0 if is_told else len(fitting), "pairs")
    if not fitting or wanted not in ("auto", *fitting):
        asked = "" if wanted == "auto" else f", so it is not of format={wanted}"
        raise BadInput(
            f"{where} has the columns {', '.join(names)}{asked}; needed are "
            f"messages, or {_or(PROMPTS)} together with {_or(RESPONSES)}; other columns are named "
            "with coverage.columns.prompt=… and coverage.columns.response=…"
        )
    return fitting[0] if wanted == "auto" else wanted


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing; a data frame writes that as NaN."""
    return value in (None, "", [], {}) or (isinstance(value, float) and math.isnan(value))


def column(kind: str, given: str | None, names: Collection[str], where: str) -> str | None:
    """The column that holds `kind`: the given one, else the first usual name that is there."""
    if given is None:
        return next((name for name in USUAL[kind] if name in names), None)
    if given not in names and given.partition(".")[0] not in names:
        raise BadInput(f"{where} has no column {given}; its columns are {', '.join(names)}")
    return given


def value_of(values: Mapping[str, Any], path: str | None) -> Any:
    """The value of a column, or at a dotted path below one; None where there is none."""
    if path is None or path in values:
        return None if path is None else values[path]
    found: Any = values
    for step in path.split("."):
        if isinstance(found, str) and found[:1] in "{[":
            found = loaded(found)
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def meaningful(rows: Iterable[Raw], kind: str, given: Columns = USUAL_NAMES) -> dict[str, str]:
    """The columns that a known format gives meaning to, by leaf of `columns`.

    They are those that a reader of the format's main columns alone would drop.
    """
    filled = ((row.values or {}).items() for row in rows)
    names = {name for cells in filled for name, value in cells if not is_missing(value)}
    if kind == "pairs":
        return {name: name for name in ("context", "history") if name in names}
    found = {"system": "system"} if "system" in names else {}
    turns = [turn for row in rows for turn in _turns(row.values or {}, given.messages)]
    if (offers := next((name for name in TOOLS if name in names), None)) or any(
        map(tools.is_of_call, turns)
    ):
        found["tools"] = offers or TOOLS[0]
        found |= {name: name for name in ("response_format",) if name in names}
    told = weight_of(turns)
    return found if told is None else found | {"weight": told}


def weight_of(turns: Iterable[dict[str, Any]]) -> str | None:
    """The field that says which of these turns are to be learnt; None where none does.

    A `loss` may be a number that somebody has measured, so only `weight` is one whatever it holds.
    """
    held: dict[str, list[Any]] = {name: [] for name in _WEIGHTS}
    for turn in turns:
        for name in held.keys() & turn.keys():
            if not is_missing(turn[name]):
                held[name].append(turn[name])
    return next(
        (
            name
            for name, values in held.items()
            if values
            and (name == _WEIGHTS[0] or all(_learns(value) is not None for value in values))
        ),
        None,
    )


def _learns(weight: Any) -> bool | None:
    """Whether a turn of this weight is learnt; None where that is not said."""
    return _LEARNT.get(str(weight).strip().casefold())


def _turn_fields(values: dict[str, Any], path: str | None, has_tools: bool) -> set[str]:
    """The fields that any turn of a row has, without those that tell of a call."""
    return {
        str(name)
        for turn in _turns(values, path)
        for name, value in turn.items()
        if not is_missing(value)
        and not (has_tools and name in tools.FIELDS and tools.is_of_call(turn))
    }


def _turns(values: dict[str, Any], path: str | None) -> list[dict[str, Any]]:
    """The turns of a row as they stand there."""
    place = path or next((name for name in MESSAGES if not is_missing(values.get(name))), None)
    turns = value_of(values, place)
    turns = loaded(turns) if isinstance(turns, str) else turns
    return [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []


class ColumnUse(NamedTuple):
    """What became of the columns of a file."""

    read: list[str]
    aside: list[str]  # known to be no part of a conversation
    unread: dict[str, int]  # rows in which a column that nobody knows has a value

    def warnings(self, group: str, rows: int) -> list[str]:
        """What nobody reads of the rows of a config group's source."""
        unread = sorted(self.unread.items(), key=lambda item: -item[1])
        if not unread:
            return []
        named = ", ".join(f"{name} ({n / rows:.0%} of rows)" for name, n in unread[:_NAMED])
        more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
        return [f"{group}: columns that nobody reads: {named}{more}".replace("%", " %")]


def use(rows: Sequence[Raw], kind: str, given: Columns, others: Iterable[str]) -> ColumnUse:
    """Tell which columns are read; `others` are those read beside the conversation."""
    filled = Counter(
        name for row in rows for name, value in (row.values or {}).items() if not is_missing(value)
    )
    told = [given.messages, given.prompt, given.response, given.system]
    told += [given.context, given.history, given.weight, given.tools, given.response_format]
    told += others
    read = {path for name in told if name for path in (name, name.partition(".")[0])}
    if kind == "pairs":
        for names in (
            _names(given.prompt, PROMPTS, filled),
            _names(given.response, RESPONSES, filled),
        ):
            read |= {name for name in names if _is_chosen(rows, names, name)}
        read |= {"input", "system"}
    else:
        names = _names(given.messages, MESSAGES, filled)
        read |= {name for name in names if _is_chosen(rows, names, name)}
        turns = Counter(
            f"{names[0]}[].{field}"
            for row in rows
            for field in _turn_fields(row.values or {}, given.messages, given.tools is not None)
            if field not in OF_TURN | {given.weight}
        )
        filled |= turns
    paths = [path for path in told if path and "." in path and path not in filled]
    filled |= Counter(
        name
        for row in rows
        for path in {path.partition(".")[0] for path in paths}
        for name in _unread_below((row.values or {}).get(path), path, paths)
    )
    aside = _ASIDE | {name for usual in USUAL.values() for name in usual}
    aside |= {"prompt"} if kind == "llamaduo" else set()
    return ColumnUse(
        sorted(filled.keys() & read),
        sorted(filled.keys() & aside - read),
        {name: filled[name] for name in filled if name not in read | aside},
    )


def _unread_below(value: Any, place: str, paths: Sequence[str]) -> Iterator[str]:
    """The paths to values that stand beside those that are read."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        value = loaded(value)
    if place in paths or not isinstance(value, dict | list):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, below in items:
        path = f"{place}.{name}"
        if any(f"{one}.".startswith(f"{path}.") for one in paths):
            yield from _unread_below(below, path, paths)
        elif not is_missing(below):
            yield path


def _is_chosen(rows: Sequence[Raw], names: Sequence[str], name: str) -> bool:
    """Whether any row's value comes from this one of several usual columns."""
    before = names[: names.index(name)]
    return any(
        not is_missing((row.values or {}).get(name))
        and all(is_missing((row.values or {}).get(other)) for other in before)
        for row in rows
    )


def _names(given: str | None, usual: Sequence[str], names: Collection[str]) -> Sequence[str]:
    """The columns to look at: the given one, by its root where it is a path, or the usual ones."""
    if given is None:
        return [name for name in usual if name in names]
    return [given if given in names else given.partition(".")[0]]


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def conversation(values: dict[str, Any], kind: str, given: Columns = USUAL_NAMES) -> list[Message]:
    """The messages of a row, ending with the wanted answer; BadRow says what is wrong."""
    if kind == "pairs":
        turns = _pair(values, given)
    else:
        named = next((name for name in MESSAGES if not is_missing(values.get(name))), MESSAGES[0])
        found = value_of(values, given.messages or named)
        turns = _messages(found, given.weight, given.tools is not None)
    system = value_of(values, given.system) if kind != "pairs" else None
    if not is_missing(system) and turns[:1] and turns[0]["role"] != "system":
        turns = [{"role": "system", "content": spoken(system, given.system)}, *turns]
    return checked(turns)


def checked(turns: list[Message]) -> list[Message]:
    """Return turns that can be learnt from; BadRow says what is wrong with others."""
    roles = [turn["role"] for turn in turns]
    if roles[-1:] != ["assistant"]:
        raise BadRow(f"ends with the turn of {roles[-1] if roles else 'nobody'}, not assistant")
    if "system" in roles[1:]:
        raise BadRow("has a system turn that is not the first")
    if roles[-2:-1] not in (["user"], ["tool"]) or "user" not in roles:
        raise BadRow("has no user turn before the last answer")
    if empty := [turn["role"] for turn in turns if tools.is_empty(turn)]:
        raise BadRow(f"has an empty {empty[0]} turn")
    return turns


def offered(values: dict[str, Any], given: Columns) -> tuple[list[Tool] | None, Any]:
    """Return the tools of a row, and the form that its answer was asked in; BadRow for no list."""
    if given.tools is None:
        return None, None
    listed = value_of(values, given.tools)
    found = tools.offered(listed)
    if found.has_others or (found.tools is None and not is_missing(listed)):
        raise BadRow(f"has {given.tools} that are no list of functions")
    form = value_of(values, given.response_format)
    return found.tools, tools.form_of(loaded(form) if isinstance(form, str) else form)


def expected(values: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any] | None:
    """What a grader reads of a row, by its name for it; None where no column is named."""
    found = {name: value_of(values, path) for name, path in columns.items()}
    return {name: value for name, value in found.items() if value is not None} or None


def split_of(value: Any) -> SplitName | None:
    """The split that a user's word for it means (`test_sft` is test); None stays None."""
    if is_missing(value):
        return None
    if (name := str(value).strip().casefold().partition("_")[0]) not in _SPLITS:
        raise BadRow(f"has the split {value!r}, which is none of train, validation, test, holdout")
    return _SPLITS[name]


def text(values: dict[str, Any], name: str) -> str:
    """A column that must be text."""
    return _text(values.get(name), name)


def loaded(value: str) -> Any:
    """What a text says in JSON, or in Python as a data frame writes it; else the text."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _pair(values: dict[str, Any], given: Columns) -> list[Message]:
    prompt, response = (
        _side(values, path, usual, given.tools is not None)
        for path, usual in ((given.prompt, PROMPTS), (given.response, RESPONSES))
    )
    turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    named = (given.prompt, given.response, given.context, given.history, given.system)
    is_named = any(path is not None and path.partition(".")[0] == "input" for path in named)
    beside = None if is_named else values.get("input")
    for more in (beside, value_of(values, given.context)):
        if not is_missing(more) and turns[-1:]:  # as in the Alpaca and the Dolly data
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{_written(more)}"
    turns = [*_history(value_of(values, given.history)), *turns]
    system = value_of(values, given.system or "system")
    if not is_missing(system) and turns[0]["role"] != "system":
        words = spoken(system, None) if isinstance(system, list | dict) else str(system)
        turns = [{"role": "system", "content": words}, *turns]
    if isinstance(response, list):
        answer = response
    elif given.tools is not None and (calls := tools.calls_in(response)):
        answer = [{"role": "assistant", "content": None, "tool_calls": calls}]
    else:
        answer = [{"role": "assistant", "content": response}]
    return tools.numbered([*turns, *answer])


def _side(
    values: dict[str, Any], path: str | None, usual: Sequence[str], has_tools: bool
) -> str | list[Message]:
    """The prompt or the response of a pair, a text or messages."""
    name = next((name for name in usual if not is_missing(values.get(name))), usual[0])
    found = value_of(values, path or name)
    if isinstance(found, list) and found and isinstance(found[0], dict):
        is_turn = any(field in found[0] for field in ("role", "from"))
        return _messages(found, None, has_tools) if is_turn or not has_tools else dumps(found)
    return _text(found, path or name)


def _written(value: Any) -> str:
    """What stands beside a prompt, as text: passages one after the other, other values in JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n\n".join(value)
    return dumps(value) if isinstance(value, list | dict) else str(value)


def _history(value: Any) -> list[Message]:
    """The turns before, as the Alpaca data have them: [prompt, response] each."""
    value = loaded(value) if isinstance(value, str) else value
    if is_missing(value):
        return []
    if not isinstance(value, list | tuple):
        raise BadRow("has a history that is no list of [prompt, response]")
    turns = list[Message]()
    for pair in value:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise BadRow("has a history that is no list of [prompt, response]")
        turns.append({"role": "user", "content": str(pair[0])})
        turns.append({"role": "assistant", "content": str(pair[1])})
    return turns


def _messages(value: Any, weight: str | None, has_tools: bool) -> list[Message]:
    if isinstance(value, str):  # a CSV cell
        value = loaded(value)
        if isinstance(value, str):
            raise BadRow("has messages that are neither a list nor JSON")
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise BadRow("has messages that are no list of {role, content}")
    turns = [_turn(turn, has_tools) for turn in value]
    if has_tools:
        turns = tools.numbered(turns)
    if weight is None:
        return turns
    wanted = 0  # turns up to the last answer to learn
    for n, (turn, given) in enumerate(zip(turns, value, strict=True), 1):
        learns = is_missing(given.get(weight)) or _learns(given[weight])
        if learns is None:
            raise BadRow(f"has a turn of {weight} {given[weight]!r}, which is neither 0 nor 1")
        if not learns:
            turn["weight"] = 0
        elif turn["role"] == "assistant":
            wanted = n
    if not wanted:
        raise NotWanted(f"without an answer whose {weight} is not 0")
    return turns[:wanted]


def _turn(turn: dict[str, Any], has_tools: bool) -> Message:
    if not has_tools and tools.is_of_call(turn):
        raise BadRow(
            "has a turn that calls a tool or answers its call: name coverage.columns.tools"
        )
    turn = tools.of_sharegpt(turn) if has_tools else turn
    name = turn.get("role", turn.get("from"))
    role = name.casefold() if isinstance(name, str) else None
    content = turn.get("content", turn.get("value", turn.get("parts")))
    if role in tools.ROLES:
        return tools.result(turn, content)
    if role not in _ROLES:
        raise BadRow(f"has a turn of role {name!r}; known are {', '.join(_ROLES)}")
    if has_tools and _ROLES[role] == "assistant" and (calls := tools.calls_of(turn)):
        words = _joined(content, role) if isinstance(content, list) else content
        return {"role": "assistant", "content": words or None, "tool_calls": calls}
    if isinstance(content, list):
        content = _joined(content, role)
    if not isinstance(content, str):
        raise BadRow(f"has a {role} turn without text")
    return {"role": _ROLES[role], "content": content}


def spoken(value: Any, name: str | None) -> str:
    """The text of a system prompt: a text, or the parts that Anthropic and Gemini have."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("parts", "content", "text") if key in value), value)
    return _joined(value, "system") if isinstance(value, list) else _text(value, name)


def _joined(parts: list[Any], role: str) -> str:
    """The text parts of a turn, as OpenAI and Anthropic have them."""
    said = list[str]()
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind != "text" or not isinstance(text, str):
            raise BadRow(f"has a {role} turn that is not text alone: {kind}")
        said.append(text)
    return "".join(said)


def _text(value: Any, name: str | None) -> str:
    if not isinstance(value, str):
        if is_missing(value):
            raise BadRow(f"has no text in {name}" if value is None else _no_text(name, value))
        is_plain = isinstance(value, int | float)
        how = "; `understudy collect` writes numbers as text" if is_plain else ""
        raise BadRow(_no_text(name, value) + how)
    return value


def _no_text(name: str | None, value: Any) -> str:
    return f"has no text, but {name}={value!r}"
