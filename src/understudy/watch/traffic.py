"""What the local model answered: from a gateway's log, or a file of ready-made answers.

Of a conversation one answer is taken, the first that is there, so that a talkative user is one
witness; conversations are told by their id, else by how they begin. Whether one is in the sample
hangs on that alone, so every look takes the same ones.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from understudy.config import Config, changed
from understudy.data import answers
from understudy.data.rejects import BadRow, NotWanted
from understudy.errors import BadInput
from understudy.prompts.chat import has_tools
from understudy.records import Message, read_objects
from understudy.services.providers import log
from understudy.services.providers.openai.log import CHAT
from understudy.store.artifacts import canonical

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.(\d+))?\.jsonl")
_FAILED = {log.CUT_OFF: "cut off", log.REFUSED: "refused"}
_USERS = ("safety_identifier", "user")
_IDS = ("session_id", "conversation_id", "thread_id")


class WatchedAnswer(NamedTuple):
    """An answer of the local model, and what is known to judge it by."""

    id: str
    time: float | None
    group: str  # digest of the conversation
    prompt: list[Message]
    text: str  # "" where there is none
    whose: str | None  # digest of the user, as a gateway's shadows have it
    failure: str | None = None  # why it is worth 0 without being judged
    reference: str | None = None
    service: str | None = None  # the service's answer beside it
    score: float | None = None  # of both sides, where the file holds verdicts: points
    service_score: float | None = None


class Traffic(NamedTuple):
    """The sampled answers, in their order, and what was left out."""

    answers: list[WatchedAnswer]
    skipped: Counter[str]


def of_gateway(directory: Path, share: float, since: float) -> Traffic:
    """Read `local_pairs/` of a gateway's directory from `since` on (seconds since the epoch)."""
    found, skipped, seen = list[WatchedAnswer](), Counter[str](), set[str]()
    for values in _lines(directory / "local_pairs"):
        facts = values.get("metadata", {})
        if facts.get("time", 0.0) < since or facts.get("by") != "local":
            continue
        group = _group(values)
        if place(group) >= share / 100 or group in seen:
            continue
        seen.add(group)
        try:
            found.append(_answer(values, group, facts["time"]))
        except (NotWanted, BadRow) as why:
            skipped[str(why)] += 1
    return Traffic(found, skipped)


def of_file(path: Path, config: Config, share: float) -> Traffic:
    """Read ready-made answers (docs of `inference=file`), which stand in the order of their time.

    Raises BadInput unless they are of one local model, with or without the service's beside them.
    """
    source = changed(config.inference, {"kind": "file", "path": str(path)})
    ready = answers.load(source, config.task.name)
    service = config.baseline.service
    names = set() if service is None else {service.name, service.model}
    local = [name for name in ready.answers if name not in names]
    if len(local) != 1:
        raise BadInput(
            f"{path} has answers of {', '.join(ready.answers)}; a watch is of one local model, and "
            f"of {' or '.join(sorted(names)) or 'no service'} beside it"
        )
    texts = {name: {row.prompt_id: row for row in reversed(rows) if row.k == 0}
             for name, rows in ready.answers.items()}  # fmt: skip
    scores = {name: _means(ready, name) for name in ready.answers}
    theirs = next((name for name in ready.answers if name in names), None)
    found, seen = list[WatchedAnswer](), set[str]()
    for row in ready.prompts:
        said = texts[local[0]].get(row.id)
        if said is None or row.group_id in seen or place(row.group_id) >= share / 100:
            continue
        seen.add(row.group_id)
        beside = None if theirs is None else texts[theirs].get(row.id)
        found.append(WatchedAnswer(
            row.id, None, row.group_id, row.prompt, said.text, None,
            None if said.text.strip() else "empty", row.response,
            None if beside is None else beside.text, scores[local[0]].get(row.id),
            None if theirs is None else scores[theirs].get(row.id),
        ))  # fmt: skip
    return Traffic(found, Counter())


def place(group: str) -> float:
    """Where a conversation is between 0 and 1: below the share, it is in the sample."""
    digits = hashlib.sha256(f"watch {group}".encode()).digest()[:8]
    return int.from_bytes(digits, "big") / 2**64


def _means(ready: answers.ReadyAnswers, name: str) -> dict[str, float]:
    """Prompt -> mean of the evaluators' precision on its first answer."""
    found: dict[str, list[float]] = {}
    for (generator, _), rows in ready.scores.items():
        for row in rows:
            if generator == name and row.k == 0 and row.precision is not None:
                found.setdefault(row.prompt_id, []).append(row.precision)
    return {prompt: fmean(scores) for prompt, scores in found.items()}


def _lines(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a gateway's daily files, in order; one that is torn is skipped."""
    named = [(found, path) for path in directory.glob("*.jsonl")
             if (found := _NAME.fullmatch(path.name))]  # fmt: skip
    for _, path in sorted(named, key=lambda one: (one[0][1], int(one[0][2] or 1))):
        for values in read_objects(path):
            if isinstance(values.get("request"), dict):
                yield values


def _group(values: dict[str, Any]) -> str:
    request = values["request"]
    places = [values["metadata"], request, request.get("metadata")]
    for name in _IDS:
        given = next((p[name] for p in places if isinstance(p, dict) and p.get(name)), None)
        if isinstance(given, str | int):
            return _digest(["id", str(given)])
    turns = request.get("messages")
    turns = turns if isinstance(turns, list) else []
    roles = [turn.get("role") if isinstance(turn, dict) else None for turn in turns]
    return _digest(["start", turns[: roles.index("user") + 1 if "user" in roles else len(turns)]])


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _answer(values: dict[str, Any], group: str, time: float) -> WatchedAnswer:
    """Read one exchange; NotWanted for one that no judge of texts can score."""
    name = str(values.get("request_id") or _digest(values["request"]))
    try:
        read = log.join([(log.unwrap(values, CHAT), CHAT)])
    except NotWanted as why:
        if (failure := _FAILED.get(str(why))) is None:
            raise
        prompt = CHAT.prompt(values["request"])
        return WatchedAnswer(name, time, group, prompt, "", _whose(values["request"]), failure)
    *prompt, said = read.messages
    if has_tools(prompt, read.tools) or "tool_calls" in said:
        raise NotWanted("with tools, which a watch does not judge")
    text = str(said["content"] or "")
    failure = None if text.strip() else "empty"
    return WatchedAnswer(name, time, group, prompt, text, _whose(values["request"]), failure)


def _whose(request: dict[str, Any]) -> str | None:
    user = next((request[name] for name in _USERS if request.get(name)), None)
    if not isinstance(user, str | int):
        return None
    return hashlib.sha256(f"user {user}".encode(errors="surrogatepass")).hexdigest()[:16]
