"""The service's own answers to the held-out prompts: the standard that the local model must reach.

They are generated anew, K times a prompt, and never taken from the references.
"""

from understudy.errors import BadInput
from understudy.prompts.chat import has_tools
from understudy.records import Answer, Coverage
from understudy.services.account import account_of
from understudy.services.base import Request
from understudy.services.client import ask
from understudy.store.artifacts import Job, RowLog
from understudy.store.progress import track


def run(job: Job) -> None:
    """Write K answers to every prompt of split `params.split`."""
    service = job.config.baseline.service
    assert service is not None, "a baseline stage has a service"
    prompts = [row for row in job.rows("split", Coverage) if row.split == job.params["split"]]
    if service.provider == "offline" and any(has_tools(row.prompt, row.tools) for row in prompts):
        raise BadInput(
            f"baseline={service.name} calls no tools, and the rows have some; choose another "
            "service, or baseline=none"
        )
    log = RowLog(job.out, Answer)
    wanted = [
        (row, k)
        for row in prompts
        for k in range(job.config.inference.k)
        if (row.id, service.name, k) not in log.rows
    ]
    account = account_of(job)
    requests = (
        Request(tuple(row.prompt), index=k, tools=tuple(row.tools or ())) for row, k in wanted
    )
    with track("baseline", len(wanted), "answers") as advance:
        for position, reply in ask(service, requests, account):
            row, k = wanted[position]
            answer = Answer(
                prompt_id=row.id,
                group_id=row.group_id,
                k=k,
                text=reply.text,
                tokens=reply.usage.output if reply.usage else None,
                finish="tool_calls" if reply.calls else reply.finish,
                generator=service.name,
                family=service.family,
                tool_calls=list(reply.calls) or None,
            )
            log.append([answer])
            advance(note=account.note)
    log.finish()
    job.notes.update(account.summary())
