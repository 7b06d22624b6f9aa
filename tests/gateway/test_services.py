"""Several services behind one address: by alias, and in the order of fallback."""

import json
from pathlib import Path
from typing import Any

import pytest

from support import configs
from support.gateways import CLIENT, Stage, ask, gateway, service, stage
from understudy import config
from understudy.config import Prices
from understudy.config.command_line import as_typed
from understudy.config.compose import compose
from understudy.errors import BadInput
from understudy.services.providers import Endpoint

DEAR = Prices(input=20.0, output=100.0, date="2026-01-01", source="a test")
MOON_KEY = "moon-key-0123456789"


def settings(moon: Stage, **more: Any) -> dict[str, Any]:
    """A second service, ten times as dear, called moon."""
    of = service(name="moon", model="moon-1", prices=DEAR, key_env=None)
    given = {"services": {"moon": of}, "others": {"moon": Endpoint(moon.url, MOON_KEY)}}
    return given | {"aliases": {"fast": "service", "good": "moon"}} | more


def test_a_model_s_name_says_which_service_is_asked_and_what_it_costs(tmp_path: Path) -> None:
    with stage() as star, stage(text="from the moon") as moon:
        given = settings(moon, usd_per_day=9.0)
        with gateway(tmp_path, star.url, **given) as running:
            for model in ("good", "moon", "moon-1"):
                reply = running.post(ask(model=model))
                assert "from the moon" in reply.text
                assert reply.headers["x-understudy-by"] == "service"
            streamed = running.post(ask(model="good", stream=True))
            assert "[DONE]" in streamed.text
            assert "usage" not in streamed.text
            assert {json.loads(body)["model"] for body in moon.bodies} == {"moon-1"}
            assert [head["authorization"] for head in moon.headers] == [f"Bearer {MOON_KEY}"] * 4
            assert star.bodies == []
            assert running.post(ask(model="fast")).status_code == 200
            assert running.state.spend.spent == 4 * 30_000 + 3_000
            assert running.state.spend.bounded == 0
            lines = running.lines("requests")
            assert [line.get("service") for line in lines] == ["moon"] * 4 + [None]
            models = {one["id"] for one in running.get("/v1/models").json()["data"]}
            assert {"star-1", "moon", "fast", "good"} <= models
            assert "moon (moon-1)" in running.get("/").text


def test_an_alias_of_the_first_service_is_asked_by_its_own_name(tmp_path: Path) -> None:
    with stage() as star, stage() as moon, gateway(
        tmp_path, star.url, **settings(moon)
    ) as running:  # fmt: skip
        assert running.post(ask(model="fast")).status_code == 200
        running.post(ask(model="star-9"))  # a name of the maker's that nobody has explained
        assert [json.loads(body)["model"] for body in star.bodies] == ["star-1", "star-9"]


def test_services_are_asked_in_the_order_of_fallback_and_the_local_model_last(
    tmp_path: Path,
) -> None:
    with (
        stage(status=500) as star,
        stage(text="from the moon") as moon,
        stage(text="mine") as small,
        gateway(
            tmp_path,
            star.url,
            mode="failover",
            local=small.url,
            **settings(moon, fallback=("moon",)),
        ) as running,
    ):
        assert "from the moon" in running.post().text
        moon.status = 503
        assert "mine" in running.post().text
        line = running.lines("requests")[-1]
        assert [(who, why) for who, why, _ in line["tried"]] == [
            ("service", "500"), ("service moon", "503"),
        ]  # fmt: skip
        assert "service moon: 503" in running.get("/").text
        small.status = 500
        assert running.post().status_code == 503  # the last service's own words


def test_in_mode_record_services_stand_in_for_each_other_and_in_mode_local_none_does(
    tmp_path: Path,
) -> None:
    with (
        stage(how="reset") as star,
        stage(text="from the moon") as moon,
        stage(status=500) as small,
    ):
        given = settings(moon, fallback=("moon", "service"))
        with gateway(tmp_path / "a", star.url, **given) as running:
            assert "from the moon" in running.post().text
            assert running.lines("pairs")[0]["metadata"]["service"] == "moon"
        with gateway(tmp_path / "b", star.url, mode="local", local=small.url, **given) as running:
            asked = len(moon.bodies)
            assert running.post().status_code == 500
            assert len(moon.bodies) == asked


def test_a_call_of_each_wire_is_asked_of_the_service_that_its_model_names(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hello"}]
    with stage() as star, stage(text="from the moon") as moon, gateway(
        tmp_path, star.url, **settings(moon)
    ) as running:  # fmt: skip
        message = {"model": "good", "messages": turns, "max_tokens": 9}
        assert "from the moon" in CLIENT.post(f"{running.url}/v1/messages", json=message).text
        path = f"{running.url}/v1beta/models/good:generateContent"
        contents = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
        assert "from the moon" in CLIENT.post(path, json=contents).text
        CLIENT.post(f"{running.url}/v1/responses", json={"model": "good", "input": "hello"})
        embedded = {"model": "good", "input": "hello"}
        CLIENT.post(f"{running.url}/v1/embeddings", json=embedded)
        assert [json.loads(body)["model"] for body in moon.bodies] == ["moon-1"] * 2
        assert [(path, json.loads(body)["model"]) for _, path, body in moon.others] == [
            ("/v1/responses", "moon-1"), ("/v1/embeddings", "moon-1"),
        ]  # fmt: skip
        assert star.bodies == []
        assert star.others == []


def test_a_shadow_asks_the_service_again_that_has_answered(tmp_path: Path) -> None:
    with stage() as star, stage(text="from the moon") as moon, stage() as small:
        given = settings(moon, shadow_twice=True)
        with gateway(tmp_path, star.url, mode="shadow", local=small.url, **given) as running:
            running.post(ask(model="good"))
        rows = running.lines("shadow")
        assert [row["generator"] for row in rows] == ["small-1", "moon-1"]
        assert len(moon.bodies) == 2
        assert star.bodies == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"aliases": {"a": "sun"}}, "gateway.aliases.a names sun; choose from service, moon"),
        ({"fallback": ("sun",)}, "gateway.fallback names sun"),
        ({"services": {"service": service()}, "aliases": {}}, "gateway.services.service"),
    ],
)
def test_a_name_that_no_service_has_is_told(
    tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with (
        stage() as moon,
        pytest.raises(BadInput, match=words),
        gateway(tmp_path, moon.url, **settings(moon) | given),
    ):
        pass


def test_services_are_named_on_the_command_line_as_the_first_is() -> None:
    words = ["gateway.service=gpt_4o", "gateway.services.claude=claude_sonnet_5_5"]
    words += ["gateway.aliases={fast: claude}", "gateway.fallback=[claude]"]
    words += ["gateway.keys.search={key_env: K, usd_per_day: 5}", "gateway.aliases.good=service"]
    made = config.build(compose(as_typed(words), None)).gateway
    assert made.services["claude"].provider == "anthropic"
    assert (made.aliases, made.fallback) == ({"fast": "claude", "good": "service"}, ("claude",))
    assert made.keys["search"].usd_per_day == 5
    assert configs.gateway().services == {}
