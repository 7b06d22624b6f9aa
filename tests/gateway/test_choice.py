"""Who answers in which mode, and that a conversation keeps its side."""

import json
from pathlib import Path

import httpx2
import pytest

from support.gateways import MODEL, ask, gateway, stage

SHOWN = {"authorization": "Bearer sk-client-0123456789abcdef"}


def test_local_never_asks_the_service_and_names_the_local_model(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage(text="mine") as small,
        gateway(tmp_path, star.url, mode="local", local=small.url) as running,
    ):
        reply = running.post(headers=SHOWN)
        assert reply.json()["choices"][0]["message"]["content"] == "mine"
        assert reply.headers["x-understudy-by"] == "local"
        assert star.bodies == []
        assert json.loads(small.bodies[0])["model"] == "small-1"  # the first that it lists
        assert "authorization" not in small.headers[0]
        small.status = 503
        assert running.post().status_code == 503
        assert star.bodies == []


@pytest.mark.slow
def test_split_keeps_a_conversation_on_its_side_and_a_growing_share_moves_none_back(
    tmp_path: Path,
) -> None:
    with (
        stage() as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="split", share=30.0, local=small.url) as running,
    ):
        with httpx2.Client(trust_env=False) as web:

            def side(number: int, *later: dict[str, str]) -> str:
                turns = [*ask(f"question {number}")["messages"], *later]
                body = {"model": MODEL, "messages": turns}
                reply = web.post(f"{running.url}/v1/chat/completions", json=body)
                return str(reply.headers["x-understudy-by"])

            first = [side(number) for number in range(200)]
            assert 40 <= first.count("local") <= 80
            more = ({"role": "assistant", "content": "x"}, {"role": "user", "content": "y"})
            assert [side(number, *more) for number in range(50)] == first[:50]
            control = running.state.live.control
            running.state.live.control = type(control)(
                mode="split", share=60.0, locals=control.locals
            )
            second = [side(number) for number in range(200)]
        assert second.count("local") > first.count("local")
        assert all(now == "local" for now, then in zip(second, first, strict=True)
                   if then == "local")  # fmt: skip


def test_users_and_conversations_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    with (
        stage() as star,
        gateway(tmp_path, star.url, mode="split", share=50.0, local=star.url) as running,
    ):
        places = []
        for text, more, headers in (
            ("a", {"user": "u1"}, {}),
            ("b", {"user": "u1"}, {}),
            ("a", {"metadata": {"session_id": "s1"}, "user": "u1"}, {}),
            ("b", {"metadata": {"session_id": "s1"}, "user": "u2"}, {}),
            ("a", {}, {"x-conversation-id": "c1"}),
            ("b", {"user": "u1"}, {"x-conversation-id": "c1"}),
            ("a", {"metadata": {"user_id": 1}}, {}),
            ("b", {"metadata": {"user_id": 1}}, {}),
            ("a", {"prompt_cache_key": "of all"}, {}),  # no name of a user
            ("a", {"metadata": {"user_id": True}}, {}),
            ("b", {"prompt_cache_key": "of all"}, {}),
        ):
            running.post(ask(text, **more), headers=headers)
            places.append(running.lines("requests")[-1]["place"])
        assert places[0:10:2] == places[1:10:2]
        assert len(set(places)) == 6
