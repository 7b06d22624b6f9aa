"""The best, the median and the worst answer of the last round, for reading."""

from typing import Any, NamedTuple
from urllib.parse import quote

from .browser import Rows


class Sample(NamedTuple):
    """One judged answer."""

    title: str
    link: str  # to the same answer in the row browser
    prompt_id: str
    messages: list[dict[str, str]]
    reference: str
    answer: str
    finish: str
    similarity: float
    precision: float


def samples(found: Rows) -> tuple[str, list[Sample]]:
    """Who answered, and three answers by the mean of both scores over all verdicts."""
    rounds = [place for place, one in enumerate(found.systems) if one.name.startswith("round-")]
    if not rounds:
        return "", []
    system = found.systems[rounds[-1]]
    scored = []
    for row in found.rows:
        if row["system"] != rounds[-1]:
            continue
        similarity, precision = (_mean(row["verdicts"], part) for part in range(2))
        if similarity is not None and precision is not None:
            scored.append((similarity, precision, row["answer"]))
    # ties stay in the order of prompts, so that equal input gives an equal page
    scored.sort(key=lambda one: -(one[0] + one[1]))
    prompts = {prompt.id: prompt for prompt in found.prompts}
    picked = []
    places = {"Best": 0, "Median": (len(scored) - 1) // 2, "Worst": len(scored) - 1}
    for title, place in places.items() if scored else ():
        similarity, precision, answer = scored[place]
        link = quote(f"{system.name}:{answer.k}:{answer.prompt_id}", safe="")
        asked = prompts[answer.prompt_id]
        picked.append(
            Sample(
                *(title, f"#row={link}", asked.id, asked.prompt, asked.response),
                *(answer.text, answer.finish, similarity, precision),
            )
        )
    return system.label, picked


def _mean(verdicts: list[Any], part: int) -> float | None:
    scores = [
        score for one in verdicts if one is not None for score in one[part] if score is not None
    ]
    return sum(scores) / len(scores) if scores else None
