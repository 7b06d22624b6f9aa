"""The coverage dataset: real (prompt, response) pairs, as rows with ids."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from understudy import playground
from understudy.artifacts import Job, RowLog, canonical
from understudy.config import Config
from understudy.errors import BadInput
from understudy.records import Coverage, Message


def run(job: Job) -> None:
    """Write every row of the source."""
    log = RowLog(job.out, Coverage)
    log.rows.clear()  # cheap to make again, and then no older content can be mixed in
    log.path.write_text("")
    log.append(_playground(job.config))
    job.notes["rows"] = len(log.finish())


def row_ids(conversations: Iterable[list[Message]]) -> list[str]:
    """Hash of the canonical messages, with the number of its earlier occurrences."""
    seen: Counter[str] = Counter()
    ids = []
    for messages in conversations:
        name = hashlib.sha256(canonical(messages).encode()).hexdigest()[:16]
        ids.append(f"{name}-{seen[name]}")
        seen[name] += 1
    return ids


def _playground(config: Config) -> list[Coverage]:
    task, source = config.task.name, config.coverage
    if task not in playground.TASKS:
        raise BadInput(
            f"task={task} is not one of the playground's: {', '.join(playground.TASKS)}; "
            "choose one of them or another coverage"
        )
    conversations = [
        [
            {"role": "user", "content": pair.instruction},
            {"role": "assistant", "content": pair.response},
        ]
        for pair in playground.generate(task, source.seed, 0, source.rows)
    ]
    return [
        Coverage(
            id=row_id,
            group_id=row_id,
            messages=messages,
            task=task,
            licence=source.licence,
            source="playground",
            split=None,
        )
        for row_id, messages in zip(row_ids(conversations), conversations, strict=True)
    ]
