"""A training set in the formats of others: pure functions from a row to a line of a file.

llamaduo   the published LlamaDuo schema (see formats.py), read back by coverage=file and
           synthesis=file
messages   what the Hugging Face trainers read: `messages`, with id, task, source and licence
openai     what OpenAI's fine-tuning API reads: `messages` and nothing else
"""

from collections.abc import Callable, Mapping
from typing import Any

from understudy.data.formats import HUMAN
from understudy.records import Coverage, Synthetic

FORMATS = ("llamaduo", "messages", "openai")
UNKNOWN = "Unknown"  # what LlamaDuo writes where there is no seed prompt


def to_llamaduo(row: Coverage, category: str, seed_prompt: str = UNKNOWN) -> dict[str, Any]:
    """Keys in the published order; a synthetic row's `prompt_id` is our id, theirs is the model."""
    turns = [{"content": turn["content"], "role": turn["role"]} for turn in row.messages]
    return {
        "generator": row.teacher if isinstance(row, Synthetic) else HUMAN,
        "prompt_id": row.id,
        "seed_prompt": seed_prompt,
        "messages": turns,
        "category": category,
        "prompt": row.instruction,
    }


def to_messages(row: Coverage) -> dict[str, Any]:
    """The conversation, and where it comes from."""
    facts = {"id": row.id, "task": row.task, "source": row.source, "licence": row.licence}
    return {"messages": row.messages, **facts}


def to_openai(row: Coverage) -> dict[str, Any]:
    """The conversation alone."""
    return {"messages": row.messages}


def converter(
    kind: str, category: str, seed_prompts: Mapping[str, str]
) -> Callable[[Coverage], dict[str, Any]]:
    """The function of a format; `seed_prompts` = by row id what the teacher was asked."""
    if kind == "llamaduo":
        return lambda row: to_llamaduo(row, category, seed_prompts.get(row.id, UNKNOWN))
    return to_messages if kind == "messages" else to_openai
