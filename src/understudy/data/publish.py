"""A training set in the formats of others, in a directory as the hub has it, and on the hub.

llamaduo   the published LlamaDuo schema (see formats.py), read back by coverage=file and
           synthesis=file
messages   what the Hugging Face trainers read: `messages`, with id, task, source and licence
openai     what OpenAI's fine-tuning API reads: `messages` and nothing else
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from understudy.data.formats import HUMAN
from understudy.data.sources import first_line, is_reachable
from understudy.errors import BadInput
from understudy.records import Coverage, Synthetic, ToolCall, dumps
from understudy.store.artifacts import write_atomically

FORMATS = ("llamaduo", "messages", "openai")
UNKNOWN = "Unknown"  # what LlamaDuo writes where there is no seed prompt


def to_llamaduo(row: Coverage, category: str, seed_prompt: str = UNKNOWN) -> dict[str, Any]:
    """Keys in the published order; a synthetic row's `prompt_id` is our id, theirs is the model."""
    turns = [{"content": turn["content"]} | turn for turn in row.messages]
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
    return _conversation(row) | facts


def to_openai(row: Coverage) -> dict[str, Any]:
    """The conversation alone."""
    return _conversation(row)


def _conversation(row: Coverage) -> dict[str, Any]:
    """The messages with calls as OpenAI writes them, and the tools that were offered, if any."""
    turns = []
    for turn in row.messages:
        if calls := turn.get("tool_calls"):
            turn = turn | {"tool_calls": list(map(_openai_call, calls))}
        turns.append(turn)
    return {"messages": turns} | ({"tools": row.tools} if row.tools else {})


def _openai_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": dumps(call["arguments"])}
    return {"id": call["id"], "type": "function", "function": function}


def converter(
    kind: str, category: str, seed_prompts: Mapping[str, str]
) -> Callable[[Coverage], dict[str, Any]]:
    """The function of a format; `seed_prompts` = by row id what the teacher was asked."""
    if kind == "llamaduo":
        return lambda row: to_llamaduo(row, category, seed_prompts.get(row.id, UNKNOWN))
    return to_messages if kind == "messages" else to_openai


def write(out: Path, card: str, files: Mapping[str, Iterable[dict[str, Any]]]) -> dict[str, int]:
    """Write <split>.jsonl for each split that has rows, and README.md; returns rows by split."""
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split, rows in files.items():
        lines = [dumps(row) + "\n" for row in rows]
        if lines:
            write_atomically(out / f"{split}.jsonl", "".join(lines))
            counts[split] = len(lines)
    parts = [{"split": split, "path": f"{split}.jsonl"} for split in counts]
    configs = dumps([{"config_name": "default", "data_files": parts}])
    write_atomically(out / "README.md", card.replace("---\n", f"---\nconfigs: {configs}\n", 1))
    return counts


def check_hub(repo: str, kind: str = "data set") -> None:
    """BadInput when nothing can be pushed to `repo`, a data set or a model, from here."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BadInput(f"--push={repo} is no name of a {kind}: {first_line(error)}") from None
    if not is_reachable():
        raise BadInput(
            f"{repo} cannot be pushed because the hub cannot be reached; leave --push out to get "
            "the files, and push them where there is a network"
        )


def push(out: Path, splits: Iterable[str], repo: str, private: bool) -> str:
    """Upload the splits and the card as one commit; returns its address."""
    files = [*(f"{split}.jsonl" for split in splits), "README.md"]
    words = "Add a training set made with understudy"
    return upload(out, files, repo, "dataset", private, words)


def upload(
    out: Path,
    files: list[str],
    repo: str,
    kind: Literal["dataset", "model"],
    private: bool,
    words: str,
) -> str:
    """Upload these files of `out` as one commit that says `words`; returns its address.

    The token is the hub client's.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # httpx's or httpx2's
        HTTPError,
        LocalTokenNotFoundError,
    )

    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=out,
            allow_patterns=files,
            commit_message=words,
        )
    except (HTTPError, LocalTokenNotFoundError, ValueError) as error:
        raise BadInput(f"{repo} was not pushed: {first_line(error)}") from None
    return str(done.commit_url)
