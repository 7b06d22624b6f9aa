"""Rows and logged exchanges whose structure is drawn: formats, columns, gaps, odd texts."""

import json
import random
from typing import Any, NamedTuple

Values = dict[str, Any]

# How answers begin that a reader could take for something else.
STARTS = (
    *(
        "",
        "data: ",
        "event: ",
        "events in ",
        "id: 7\n",
        ": note\n",
        "retry: ",
        "\ufeff",
        "{",
        "[1]",
    ),
    *(
        '{"a": 1}',
        '{"error": {"message": "no"}}',
        "null",
        "<p>",
        "None",
        "Human: ",
        "user: ",
        "---",
    ),
)
INSIDES = (
    "\u2028",
    "\u0085",
    "\x1c",
    "\r",
    "\r\n",
    "\n\n",
    "\t",
    '"',
    "\\",
    "é",
    "漢",
    "🙂",
    "\0",
    ",",
)
WHOLE = ('{"a": 1}', "[1, 2]", '"x"', "5", "null", "{}", "data", "<p>Yes.</p>")
_WORDS = ("alpha", "beta", "gamma", "data:", "choices", "role", "0", "null", "NaN", "content")
_SYSTEM = "Be brief."


def text(dice: random.Random) -> str:
    """Some words, with a start or an inside that misleads."""
    if dice.random() < 0.05:
        return dice.choice(WHOLE)
    words = dice.choices(_WORDS, k=dice.randint(1, 6))
    if dice.random() < 0.3:
        words.insert(dice.randrange(len(words)), dice.choice(INSIDES))
    return dice.choice(STARTS) + " ".join(words) if dice.random() < 0.3 else " ".join(words)


class Made(NamedTuple):
    """A row, the conversation that it holds (None = it holds none), and what nobody reads of it."""

    values: Values | str
    wanted: list[dict[str, str]] | None
    unread: set[str]


def _turn(role: str, content: Any, **more: Any) -> Values:
    return {"role": role, "content": content} | more


def row(dice: random.Random, kind: str) -> Made:
    """One row of a file of pairs or of messages."""
    said, made = [text(dice) for _ in range(4)], Made
    values, wanted = (_pair if kind == "pairs" else _messages)(dice, said)
    unread = set()
    for name in dice.sample(("mood", "colour", "Prompt", "x.y", "größe"), dice.randint(0, 2)):
        value = dice.choice((1, "x", False, {"a": 1}, [0], None, "", [], float("nan")))
        values[name] = value
        if value not in (None, "", []) and value == value:
            unread.add(name)
    for name in dice.sample(("id", "url", "source", "license"), dice.randint(0, 2)):
        values[name] = dice.choice((None, f"n{dice.random()}"))
    accident = dice.randrange(20)
    if accident == 0:
        return made(json.dumps(values)[: -dice.randint(1, 9)], None, set())
    if accident == 1:
        return made(json.dumps([values]), None, set())
    if accident == 2:
        return made(values | {"split": "nowhere"}, None, unread)
    names = list(values)
    dice.shuffle(names)
    return made({name: values[name] for name in names}, wanted, unread)


def _pair(dice: random.Random, said: list[str]) -> tuple[Values, list[dict[str, str]] | None]:
    asks = dice.choice(("prompt", "instruction", "question"))
    says = dice.choice(("response", "output", "completion", "answer"))
    values: Values = {asks: said[0], says: said[1]}
    asked, before = said[0], list[dict[str, str]]()
    for name in ("input", "context"):
        if dice.random() < 0.3:
            values[name] = dice.choice((said[2], None, "", float("nan")))
            asked += f"\n\n{said[2]}" if values[name] == said[2] else ""
    if dice.random() < 0.2:
        values["history"] = [[said[2], said[3]]]
        before = [_turn("user", said[2]), _turn("assistant", said[3])]
    if dice.random() < 0.3:
        values["system"] = dice.choice((_SYSTEM, None, ""))
        before = [_turn("system", _SYSTEM), *before] if values["system"] else before
    wanted = [*before, _turn("user", asked), _turn("assistant", said[1])]
    fate = dice.randrange(12)
    if fate == 0:
        values[says] = dice.choice((None, "", " ", 5, float("nan")))
        return values, None
    if fate == 1:
        values[asks], values[says] = [_turn("user", asked)], [_turn("assistant", said[1])]
        for name in ("input", "context"):
            values.pop(name, None)
    return values, wanted


def _messages(dice: random.Random, said: list[str]) -> tuple[Values, list[dict[str, str]] | None]:
    turns = [
        _turn(role, words) for role, words in zip(("user", "assistant") * 2, said, strict=True)
    ]
    turns = turns[: dice.choice((2, 4))]
    wanted = [dict(turn) for turn in turns]
    values: Values = {}
    if dice.random() < 0.3:
        values["system"] = _SYSTEM
        wanted = [_turn("system", _SYSTEM), *wanted]
    fate = dice.randrange(10)
    if fate == 0:
        values["messages"] = turns[:-1]
        return values, None
    if fate == 1:
        values["messages"] = [*turns[:-1], _turn("assistant", said[3], tool_calls=[{"id": "1"}])]
        return values, None
    if fate == 2:
        turns = [turn | {"role": turn["role"].upper()} for turn in turns]
    if fate == 3:
        turns = [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    if fate == 4:
        roles = {"user": "human", "assistant": "gpt"}
        talk = [{"from": roles[turn["role"]], "value": turn["content"]} for turn in turns]
        values["conversations"], values["messages"] = talk, None
        return values, wanted
    values["messages"] = json.dumps(turns) if fate == 5 else turns
    return values, wanted


# --- logs ---------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A logged line; the text of its answer, None where there is none to keep."""

    line: Values | str
    answer: str | None
    unread: set[str]


def call(dice: random.Random, number: int) -> Call:
    """One exchange with a chat service in one line, however a proxy writes it."""
    answer = text(dice)
    request = {"model": "m", "messages": [_turn("user", f"Question {number}?")]}
    fates = (
        *(_plain, _plain, _object, _object, _object, _stream, _stream, _chunks, _http, _in_text),
        *(_cut, _failed, _tool, _odd),
    )
    response, kept = dice.choice(fates)(dice, answer)
    unread = set(dice.sample(("mood", "tenant", "größe"), dice.randint(0, 2)))
    values = {"request": request, "response": response} | dict.fromkeys(unread, 1)
    if dice.random() < 0.03:
        return Call(json.dumps(values)[: -dice.randint(1, 9)], None, set())
    return Call(values, answer if kept else None, unread)


def _choice(answer: str, **more: Any) -> Values:
    message = _turn("assistant", answer)
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"} | more]}


def _pieces(dice: random.Random, answer: str) -> list[Values]:
    cut = dice.randint(0, len(answer))
    deltas = [{"role": "assistant"}, {"content": answer[:cut]}, {"content": answer[cut:]}, {}]
    ends = [None, None, None, "stop"]
    return [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in zip(deltas, ends, strict=True)
    ]


def _plain(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return answer, True


def _object(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return _choice(answer) | {"model": "m", "object": "chat.completion"}, True


def _in_text(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return json.dumps(_choice(answer), ensure_ascii=dice.random() < 0.5), True


def _http(dice: random.Random, answer: str) -> tuple[Any, bool]:
    body = _choice(answer)
    return {"status_code": 200, "body": dice.choice((body, json.dumps(body)))}, True


def _chunks(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return _pieces(dice, answer), True


def _stream(dice: random.Random, answer: str) -> tuple[Any, bool]:
    end = dice.choice(("\n", "\r\n", "\r"))
    lines = [dice.choice(("\ufeff", "")) + dice.choice((": wait", "id: 1", "retry: 9", "event: x"))]
    for piece in _pieces(dice, answer):
        data = json.dumps(piece, ensure_ascii=dice.random() < 0.5)
        lines += [dice.choice(("data: ", "data:")) + data, ""]
    return end.join([*lines, "data: [DONE]", "", ""]), True


def _cut(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return _choice(answer, finish_reason="length"), False


def _failed(dice: random.Random, answer: str) -> tuple[Any, bool]:
    error = {"error": dice.choice(("busy", {"message": "busy", "code": 529}))}
    return dice.choice((error, {"status_code": 200, "body": error}, None)), False


def _tool(dice: random.Random, answer: str) -> tuple[Any, bool]:
    half = {"name": "f", "arguments": '{"a": '}
    message = _turn("assistant", None, tool_calls=[{"id": "1", "function": half}])
    return _choice(answer, message=message, finish_reason="tool_calls"), False


def _odd(dice: random.Random, answer: str) -> tuple[Any, bool]:
    return dice.choice(({"odd": answer}, {"object": "list", "data": [{"embedding": [0.5]}]})), False
