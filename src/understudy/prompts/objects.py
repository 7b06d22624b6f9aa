"""The JSON objects in a reply: fences, prose and trailing commas do no harm, nothing is guessed.

Prose may hold braces; an object begins where a brace is followed by a quoted key and a colon. From
there on the text must be JSON to the object's end: where it is not, what follows may be something
that the object quotes, so the whole reply is unreadable.

Of a judge's and a teacher's reply more is read (`said_in`): thoughts are left out, LaTeX within
strings is taken as it was meant, and a judge's object that ends the reply may replace the drafts
before it.
"""

import json
import re
from typing import Any, NamedTuple

_QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_OPENING = re.compile(r'\{\s*(?=["}]|\Z)')
_BEGUN = re.compile(rf"\{{\s*(?:\}}|{_QUOTED}\s*:)", re.DOTALL)
_STRING = re.compile(rf"{_QUOTED}(?!\s*\Z)", re.DOTALL)
_CUT_OFF = re.compile(r"[-+.\w]*\s*\Z")  # nothing but the beginning of a value
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_REFUSALS = ("i can't", "i cannot", "i can not", "i'm sorry", "i am sorry", "i'm unable", "i won't")

_TAGS = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad"
_THOUGHT = re.compile(rf"\s*(?:<({_TAGS})>|\[(THINK)\]|◁(think)▷)", re.IGNORECASE)
# Chat templates that open the thought themselves leave its end alone in the reply.
_THOUGHT_END = re.compile(rf"</(?:{_TAGS})>(?=\s*(?:\n|\Z|[{{\[`]))", re.IGNORECASE)
_CHANNEL = "<|channel|>final<|message|>"  # of OpenAI's harmony format, before the answer
_MARK = re.compile(r"<\|(?:end|return|im_end|eot_id)\|>\s*\Z")
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
_LINE_OPENING = re.compile(r"^[ \t]*(?=\{)", re.MULTILINE)
_MOST_TRIES = 20  # of openings, from the end
_FENCE_LINE = re.compile(r"^[ \t]*```\w*[ \t]*$", re.MULTILINE)
_END = re.compile(r"[\s\]]*(?:```\s*)?\.?\s*\Z")  # nothing is said after the object
_FINAL = re.compile(
    r"\b(?:final(?:ly)?|correct(?:ed|ion)|revis\w+|rather|instead|reconsider\w*|updated?)\b",
    re.IGNORECASE,
)
_QUOTING = re.compile(
    r"\b(?:says?|said|claims?|contains?|quot\w+|ignor\w+|inject\w+|example|tells?|wrote)\b",
    re.IGNORECASE,
)


class _Ambiguous(Exception):
    """A key stands twice in an object, with different values."""


class SpokenReply(NamedTuple):
    """What a model said: its objects, in order, and the words around them."""

    objects: list[dict[str, Any]]
    words: str
    has_last_word: bool  # whether the last object may replace those before it


class _Objects(NamedTuple):
    """The objects of a text with where they begin and end, and why there are none."""

    found: list[tuple[dict[str, Any], int, int]]
    text: str  # as it was mended
    problem: str | None


def objects_in(reply: str) -> list[dict[str, Any]] | str:
    """Return the objects at the top level of a reply, in order, or why there is none.

    The reasons: "empty", "refused", "not_json", "cut_off" (the text ends inside an object),
    "ambiguous" (a key stands twice in an object, with different values).
    """
    read = _read(reply, mends_escapes=False)
    return [value for value, _, _ in read.found] if read.problem is None else read.problem


def said_in(reply: str, may_quote: bool = True) -> SpokenReply | str:
    """Return what a reply says, or why there is no object in it, as of `objects_in`.

    `may_quote` = the texts that the model was shown may end a thought within its reply.
    """
    spoken = without_thoughts(reply, may_quote)
    if not spoken and reply.strip():
        return "not_json"  # it only thought
    read = _read(spoken, mends_escapes=True)
    if read.problem == "not_json" and (last := _last_whole(spoken)) is not None:
        return SpokenReply([last], "", True)
    if read.problem is not None:
        return read.problem
    ends = [0, *(end for _, _, end in read.found)]
    gaps = [read.text[end:begin] for end, (_, begin, _) in zip(ends, read.found, strict=False)]
    tail = read.text[ends[-1] :]
    objects = [value for value, _, _ in read.found]
    return SpokenReply(objects, "\n".join([*gaps, tail]), _is_last_word(gaps, tail))


def unwrapped(text: str) -> str:
    """Return the text of a reply that came as JSON: a string, or a list of typed parts."""
    if not text.lstrip().startswith(('"', "[")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        texts = [part.get("text") for part in value if "text" in str(part.get("type"))]
        value = "".join(map(str, texts)) if texts else None
    return value if isinstance(value, str) else text


def without_thoughts(reply: str, may_quote: bool = True) -> str:
    """Return a reply without what the model thought before it spoke, where tags mark it."""
    text = reply
    if (opened := _THOUGHT.match(text)) is not None:
        tag, bracket, _ = opened.groups()
        end = re.escape(f"</{tag}>" if tag else "[/THINK]" if bracket else "◁/think▷")
        ended = re.compile(end, re.IGNORECASE).search(text, opened.end())
        text = "" if ended is None else text[ended.end() :]
    elif text.lstrip().startswith(("<|channel|>", "<|start|>")) and _CHANNEL in text:
        text = text.rpartition(_CHANNEL)[2]
    elif (lone := _THOUGHT_END.search(text)) is not None:
        # Behind the beginning of an object it may be what the object quotes.
        has_begun = _BEGUN.search(text, 0, lone.start()) is not None
        if has_begun and not may_quote:
            has_begun = _read(text[: lone.start()], mends_escapes=True).problem is not None
        text = text if has_begun else text[lone.end() :]
    return _MARK.sub("", text).strip()


def _is_last_word(gaps: list[str], tail: str) -> bool:
    """Whether the last object, after these texts, is meant to replace those before it.

    Nothing follows it, and it stands on lines of its own or is called final. What a judge says that
    an answer contains is none, however many objects that has.
    """
    between = "".join(gaps[1:])
    if _END.match(tail) is None or _QUOTING.search(between) or between.count('"') % 2:
        return False
    before = _FENCE_LINE.sub("", gaps[-1]).rpartition("\n")[2].strip(" \t,[")
    return not before or _FINAL.search(before) is not None


def _last_whole(text: str) -> dict[str, Any] | None:
    """The object that ends a text on lines of its own, whatever is broken before it."""
    text = _mended(text)
    for opening in list(_LINE_OPENING.finditer(text))[-_MOST_TRIES:]:
        try:
            value, end = _DECODER.raw_decode(text, opening.end())
        except (ValueError, RecursionError, _Ambiguous):
            continue
        if _END.match(text, end):
            found: dict[str, Any] = value
            return found
    return None


def _mended(text: str) -> str:
    """The text with a second backslash wherever JSON knows no escape, as before LaTeX."""
    return _ESCAPE.sub(lambda escape: escape[0] if len(escape[0]) > 1 else r"\\", text)


def _read(text: str, mends_escapes: bool) -> _Objects:
    found: list[tuple[dict[str, Any], int, int]] = []
    reply, at = text, 0
    while opening := _OPENING.search(text, at):
        begin = opening.start()
        if _BEGUN.match(text, begin) is None:
            if (string := _STRING.match(text, opening.end())) is None:
                return _Objects(found, text, "cut_off")
            at = string.end()
            continue
        try:
            value, at = _DECODER.raw_decode(text, begin)
            found.append((value, begin, at))
        except json.JSONDecodeError as error:
            if (comma := _trailing_comma(text, error.pos)) is not None:
                text, at = f"{text[:comma]} {text[comma + 1 :]}", begin
            elif mends_escapes and error.msg.startswith("Invalid \\"):
                text, at = text[:begin] + _mended(text[begin:]), begin
                mends_escapes = False  # nothing is left to mend
            elif error.msg.startswith("Unterminated") or _CUT_OFF.match(text, error.pos):
                return _Objects(found, text, "cut_off")
            else:
                return _Objects(found, text, "not_json")
        except _Ambiguous:
            return _Objects(found, text, "ambiguous")
        except (ValueError, RecursionError):  # a number of 5,000 digits
            return _Objects(found, text, "not_json")
    if found:
        return _Objects(found, text, None)
    if not reply.strip():
        return _Objects(found, text, "empty")
    return _Objects(found, text, "refused" if sounds_like_refusal(reply) else "not_json")


def _trailing_comma(text: str, place: int) -> int | None:
    """Return where the comma is that made reading fail at `place`, if it ends a list or object."""
    if text[place : place + 1] != ",":  # before Python 3.13 the bracket behind it is named
        place = len(text[:place].rstrip()) - 1
    has_value = text[:place].rstrip()[-1:] not in (",", "[", "{", ":")
    return place if has_value and _TRAILING_COMMA.match(text, place) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise _Ambiguous
        found[key] = value
    return found


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)  # strings may hold line ends


def sounds_like_refusal(reply: str) -> bool:
    """Whether a text begins as refusals do."""
    return reply.strip().lower().replace("’", "'").startswith(_REFUSALS)
