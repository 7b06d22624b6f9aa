"""Gemini generateContent: requests, responses, and the responses of a stream.

Source: models.generateContent and streamGenerateContent (ai.google.dev/api/generate-content): each
chunk of a stream is a GenerateContentResponse of its own, the last one has a finishReason. Both the
REST names and the snake_case of the Python SDK are read. Of several candidates the first is taken.
"""

from typing import Any

from understudy.data import tools
from understudy.data.rejects import BadRow, NotWanted
from understudy.records import Message
from understudy.services.providers import dialogue, log
from understudy.services.providers.dialogue import listed, mapping
from understudy.services.providers.log import AnswerText, Dialect, Values

_OWN_TOOLS = ("executableCode", "codeExecutionResult", "toolCall")
_TOOLS = ("functionCall", "functionResponse", *_OWN_TOOLS)
_GOOD_ENDS = {"STOP", "FINISH_REASON_UNSPECIFIED"}
_NUMBERED_ENDS = {1: "STOP", 2: "MAX_TOKENS"}  # of the enumeration, as the protocol buffers have it


def asks(body: Values) -> bool:
    """Whether this is a request."""
    return "contents" in body


def answers(body: Values) -> bool:
    """Whether this is a response or a chunk of one."""
    is_rest = "promptFeedback" in body or "usageMetadata" in body  # the last chunk may be bare
    return isinstance(body.get("candidates"), list) or is_rest


def ended(bodies: list[Values]) -> bool:
    """Whether the answer was finished, or the prompt blocked."""
    return any(
        _get(body, "promptFeedback", "blockReason") or _get(candidate, "finishReason")
        for body in bodies
        for candidate in (_first(body),)
    )


def prompt(body: Values) -> list[Message]:
    """The system instruction, if any, then the contents."""
    if _get(body, "cachedContent"):
        raise NotWanted(log.NO_STATE)
    contents = body.get("contents")
    if isinstance(contents, str):
        contents = [{"role": "user", "parts": [{"text": contents}]}]
    if isinstance(contents, dict):
        contents = [contents]
    made = [
        {"role": _role(content), "content": _said(content.get("parts"))}
        for item in listed(contents, "contents")
        for content in (mapping(item, "a content"),)
    ]
    system = _get(body, "systemInstruction") or _get(body, "config", "systemInstruction")
    words = system if isinstance(system, str) else ""
    if isinstance(system, dict):
        words = dialogue.text(_said(system.get("parts")))
    return dialogue.with_system(words, dialogue.turns(made))


def answer(bodies: list[Values]) -> AnswerText:
    """The text and the calls of the candidates, thoughts left out."""
    if any(_get(body, "promptFeedback", "blockReason") for body in bodies):
        raise NotWanted(log.REFUSED)
    firsts = [_first(body) for body in bodies]
    parts = [part for first in firsts for part in _parts(_get(first, "content", "parts"))]
    found = [end for first in firsts if (end := _get(first, "finishReason"))]
    ends = [_NUMBERED_ENDS.get(end, "") if isinstance(end, int) else str(end) for end in found]
    if any("TOOL" in end for end in ends):
        raise NotWanted(dialogue.OWN_TOOLS)
    if not ends:
        raise NotWanted(log.NO_END)
    if ends[-1] not in _GOOD_ENDS:
        is_call = ends[-1] == "MALFORMED_FUNCTION_CALL"
        refused = tools.NO_OBJECT if is_call else log.REFUSED
        raise NotWanted(log.CUT_OFF if ends[-1] == "MAX_TOKENS" else refused)
    said = dialogue.parts(_said(parts))
    model = dialogue.first_text(_get(body, "modelVersion") for body in bodies)
    return AnswerText(said.text, model, tuple(said.calls))


def _role(content: Values) -> str:
    """Who speaks; results of functions have stood under three roles."""
    role = content.get("role") or "user"
    return "user" if role in ("function", "tool") else str(role)


def _first(body: Values) -> Values:
    found = [mapping(one, "a candidate") for one in listed(body.get("candidates"), "candidates")]
    return next((one for one in found if one.get("index") in (0, None)), {})


def _parts(value: Any) -> list[Values]:
    return [
        {"text": part} if isinstance(part, str) else mapping(part, "a part")
        for part in listed(value, "parts")
    ]


def _said(value: Any) -> list[Values]:
    """The parts as others have them, without thoughts."""
    said = list[Values]()
    for part in _parts(value):
        if any(_get(part, name) is not None for name in _OWN_TOOLS):
            raise NotWanted(dialogue.OWN_TOOLS)
        if part.get("thought") is True:
            continue
        if (call := _get(part, "functionCall")) is not None:
            said.append({"type": "tool_use"} | mapping(call, "a call"))
            continue
        if (told := _get(part, "functionResponse")) is not None:
            said.append({"type": "tool_result"} | mapping(told, "a result"))
            continue
        if not isinstance(words := part.get("text", ""), str):
            raise BadRow("has a text part without text")
        if any(_get(part, name) for name in ("inlineData", "fileData")):
            raise NotWanted(dialogue.NOT_TEXT)
        said.append({"type": "text", "text": words})
    return said


def _get(body: Values, *path: str) -> Any:
    """A value by its REST names, or by the same names in snake_case."""
    value: Any = body
    for name in path:
        if not isinstance(value, dict):
            return None
        found = value.get(name)
        value = value.get(_SNAKE.get(name, name)) if found is None else found
    return value


_SNAKE = {
    name: "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    for name in (
        *("promptFeedback", "blockReason", "finishReason", "cachedContent", "systemInstruction"),
        *("modelVersion", "responseId", "inlineData", "fileData", *_TOOLS),
    )
}

DIALECTS = (Dialect("gemini", "Google", asks, answers, ended, prompt, answer),)
