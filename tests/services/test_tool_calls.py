"""Tools on the way to a service and back: what is offered, called, answered, filed and paid."""

from pathlib import Path
from typing import Any

import pytest

from support import paid
from support.books import drain
from understudy.rehearsal.server import RehearsalServer
from understudy.services import money
from understudy.services.base import Reply, Request
from understudy.services.client import ask
from understudy.services.journal import key_of
from understudy.services.providers.adapter import calls_of

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paint a thing.",
        "parameters": {
            "type": "object",
            "properties": {"thing": {"enum": ["barn", "gate"]}, "litres": {"type": "integer"}},
            "required": ["thing", "litres"],
        },
    },
}
QUESTION = {"role": "user", "content": "Paint the gate; you may use 3 litres."}
CALL = {"id": "call00000", "name": "paint", "arguments": {"thing": "gate", "litres": 3}}
RESULT = {"role": "tool", "content": "it is red now", "tool_call_id": "call00000"}
PLAIN, OFFERED = Request((QUESTION,)), Request((QUESTION,), tools=(TOOL,))
STEP: tuple[dict[str, Any], ...] = (
    QUESTION,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    RESULT,
)


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "openai_compatible"])
def test_a_service_calls_tools_and_hears_what_they_say(provider: str, tmp_path: Path) -> None:
    model = f"{provider}-test"
    service = paid.service(provider=provider, model=model)
    requests = [OFFERED, Request(STEP, tools=(TOOL,))]

    def asked() -> list[Reply]:
        account = paid.account(tmp_path, rehearsal_url=server.url)
        arrived, error = drain(ask(service, requests, account))
        assert error is None
        return [reply for _, reply in sorted(arrived, key=lambda pair: pair[0])]

    with RehearsalServer(prices={model: paid.PRICES}) as server:
        called, told = asked()
        assert (called.text, called.calls, called.finish) == ("", (CALL,), "stop")
        assert (told.text, told.calls) == ("The tool says: it is red now", ())
        assert [(one.text, one.calls) for one in asked()] == [("", (CALL,)), (told.text, ())]
        assert len(server.log) == 2  # the second time nothing was bought
        for reply, request in zip((called, told), requests, strict=True):
            assert reply.usage is not None
            assert reply.usage.input <= money.most_input(request)


def test_tools_change_the_key_of_a_reply_and_none_leave_it() -> None:
    service = paid.service()
    assert key_of(service, PLAIN) == key_of(service, Request((QUESTION,), tools=()))
    other = TOOL | {"function": TOOL["function"] | {"name": "wash"}}
    requests = [PLAIN, OFFERED, Request((QUESTION,), tools=(other,)), Request(STEP, tools=(TOOL,))]
    assert len({key_of(service, request) for request in requests}) == len(requests)


def test_a_call_whose_arguments_cannot_be_read_is_none() -> None:
    right = ("paint", '{"thing": "gate", "litres": 3}')
    assert calls_of([right]) == (CALL,)
    assert calls_of([right, ("paint", '{"thing": ')]) == calls_of([("paint", "[1]")]) == ()
