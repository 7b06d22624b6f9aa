"""Shadows: the local model answers too, nobody waits for it, and `decide` can read both sides."""

import json
from pathlib import Path
from typing import Any

import pytest

from support import configs
from support.gateways import ask, gateway, service, stage, until
from understudy.cli.main import main
from understudy.config.gateway import LocalPrices
from understudy.errors import BadInput
from understudy.gateway import control, verdict
from understudy.rehearsal.server import RehearsalServer
from understudy.routing import artifact
from understudy.routing.allocate import Goal, learn


def test_a_shadow_is_a_ready_made_answer_and_the_client_s_is_untouched(tmp_path: Path) -> None:
    with (
        stage(text="It is 42, I think.") as star,
        stage(text="It is 42.") as small,
        gateway(tmp_path, star.url, mode="shadow", local=small.url) as running,
    ):
        reply = running.post(ask("what?", stream=True))
        assert reply.headers["x-understudy-by"] == "service"
        assert reply.content == b"".join(part for part in star.sent if b'"usage"' not in part)
        until(lambda: running.lines("shadow"))
        (row,) = running.lines("shadow")
        assert row["prompt"] == [{"role": "user", "content": "what?"}]
        assert (row["reference"], row["candidate"]) == ("It is 42, I think.", "It is 42.")
        assert row["generator"] == "small-1"
        assert json.loads(small.bodies[0]) == ask("what?", model="small-1")
        assert len(running.lines("pairs")) == 1
        until(lambda: running.state.numbers.shadows["pairs"])
        assert "0.75" in running.get("/").text  # ROUGE-L: 3 words of 3 and of 5: 2*3/8 = 0.75


def test_turns_of_a_conversation_and_calls_of_a_user_are_one_group(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage() as small,
        gateway(tmp_path, star.url, mode="shadow", local=small.url) as running,
    ):
        turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "yes?"}]
        talk = {"messages": [*turns, {"role": "user", "content": "and then?"}]}
        named = {"user": "ann@example.org"}
        for body in (ask("hello"), ask("x") | talk, ask("a") | named, ask("b") | named):
            running.post(body)
        until(lambda: len(running.lines("shadow")) == 4)
        groups = {row["prompt"][-1]["content"]: row["group_id"] for row in running.lines("shadow")}
        assert groups["hello"] == groups["and then?"] != groups["a"] == groups["b"]
        kinds = {row["prompt"][-1]["content"]: row["group_of"] for row in running.lines("shadow")}
        assert kinds == {"hello": "start", "and then?": "start", "a": "user", "b": "user"}
        assert all(row["seconds"] >= 0 for row in running.lines("shadow"))
        assert "ann@" not in json.dumps(running.lines("shadow"))


def test_a_local_model_that_is_slow_or_gone_holds_no_client_up(tmp_path: Path) -> None:
    with (
        stage() as star,
        stage(how="silent") as small,
        gateway(
            tmp_path, star.url, mode="shadow", local=small.url, shadow_in_flight=2, shadow_queue=0
        ) as running,
    ):
        for _ in range(5):
            assert running.post().status_code == 200
        until(lambda: running.state.numbers.shadows["skipped"] == 3)
        small.close()
        until(lambda: running.state.numbers.shadows["failed"] == 2)
        assert "shadows: skipped" in running.get("/").text


def test_several_candidates_answer_the_same_turns_and_each_is_compared(tmp_path: Path) -> None:
    def about(system: str, text: str) -> dict[str, Any]:
        turns = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        return ask() | {"messages": turns}

    with (
        stage(text="It is 42, I think.") as star,
        stage(text="It is 42.") as small,
        stage(text="It is 42, I think.") as other,
        stage(status=500) as dead,
        gateway(
            tmp_path,
            star.url,
            mode="shadow",
            local=small.url,
            candidates=(other.url, dead.url),
            local_prices=LocalPrices(0.1, 0.5),
            shadow_twice=True,
        ) as running,
    ):
        for number in range(3):
            running.post(about("You sort <b>tickets</b>.", f"what {number}?"))
        running.post(about("You answer mails.", "what?"))
        until(lambda: running.state.numbers.shadows["pairs"] == 4)
        rows = [row for row in running.lines("shadow") if row["generator"] != "star-1"]
        again = [row for row in running.lines("shadow") if row["generator"] == "star-1"]
        page = running.get("/").text
        assert running.state.numbers.shadows[f"failed at small-1 at {dead.url[7:-3]}"] == 4
    both = {"small-1": "It is 42.", f"small-1 at {other.url[7:-3]}": "It is 42, I think."}
    assert len(rows) == 8
    assert {row["generator"]: row["candidate"] for row in rows} == both
    assert [row["usd"] for row in rows] == pytest.approx([1e-6 * (1000 * 0.1 + 100 * 0.5)] * 8)
    assert {row["usd"] for row in again} == {0.003}
    assert page.count("– You sort &lt;b&gt;tickets&lt;/b&gt;.") == 2
    assert "<td>small-1</td><td class=n>4</td><td class=n>0.75 [" in page
    assert "<td class=n>$0.150</td><td class=n>$3.000</td>" in page
    assert "0 were skipped, as the queue of 1,000 was full" in page


def test_the_page_says_what_the_last_decision_on_its_shadows_found(tmp_path: Path) -> None:
    directory = tmp_path / "gateway"
    for name, where, word in (("a", directory, "MIGRATE"), ("b", tmp_path / "other", "NO")):
        run = tmp_path / "run" / name
        run.mkdir(parents=True)
        path = str(where / "shadow" / "2026-01-01.jsonl")
        (run / "run.json").write_text(json.dumps({"config": {"inference": {"path": path}}}))
        found = {"mean": -0.5, "low": -1.25, "high": 0.25}
        said = {"decision": word, "metric": "precision", "difference": found}
        said |= {"arms": {"lines": ["dollars: so many", "  of more"]}}
        (run / "decision.json").write_text(json.dumps(said))
    last = verdict.of(directory)
    assert last is not None
    assert last.run == "a"
    assert "MIGRATE; precision of the local model minus the service's: -0.50 [-1.25, +0.25]" in (
        last.sentence
    )
    assert last.sentence.endswith("dollars: so many")
    assert verdict.of(tmp_path / "nowhere") is None


def test_tool_calls_are_no_text_to_judge(tmp_path: Path) -> None:
    with (
        stage(tools=True) as star,
        gateway(tmp_path, star.url, mode="shadow", local=star.url) as running,
    ):
        running.post()
        until(lambda: running.state.numbers.shadows["no text"] == 1)
        assert running.lines("shadow") == []


def test_the_service_s_second_answer_is_paid_for_and_on_record(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "shadow", "shadow_twice": True}
    with stage() as star, stage() as small:
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            running.post()
            until(lambda: len(running.lines("shadow")) == 2)
            names = [row["generator"] for row in running.lines("shadow")]
            assert names == ["small-1", "star-1"]
            assert running.state.spend.spent == 6000
            assert "understudy_gateway_spent_usd_total 0.006" in running.get("/metrics").text
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            assert running.state.spend.spent == 6000


def test_who_has_no_key_is_asked_twice_only_where_none_is_needed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"mode": "shadow", "shadow_twice": True, "key": ""}
    with stage() as star, stage() as small:
        needs = service(key_env="STAR_KEY")
        with (
            pytest.raises(BadInput, match="environment variable STAR_KEY"),
            gateway(tmp_path, star.url, of=needs, local=small.url, **settings),
        ):
            pass
        with gateway(tmp_path, star.url, local=small.url, **settings) as running:
            running.post()
            until(lambda: len(running.lines("shadow")) == 2)


@pytest.mark.slow
def test_decide_reads_shadows_with_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_KEY", "rehearsal")
    from understudy.playground import generate

    prompts = [pair.instruction for pair in generate("closed_qa", 7, 0, 60)]
    settings: dict[str, Any] = {"mode": "shadow", "shadow_twice": True, "shadow_in_flight": 64}
    settings |= {"local_key_env": "LOCAL_KEY", "local_prices": LocalPrices(0.0, 0.01)}
    with (
        RehearsalServer() as star,
        RehearsalServer() as small,
        gateway(
            tmp_path / "g", f"{star.url}/openai/v1", of=service(rehearsal=True),
            local=f"{small.url}/openai/v1", local_model="tiny-7", **settings,
        ) as running,
    ):  # fmt: skip
        for number, prompt in enumerate(prompts):
            about = {"role": "system", "content": f"You are number {number % 2}."}
            body = ask(prompt) | {"messages": [about, *ask(prompt)["messages"]]}
            assert running.post(body).status_code == 200
        until(lambda: len(running.lines("shadow")) == 2 * len(prompts))
    (shadow,) = (tmp_path / "g" / "shadow").iterdir()
    root = ["--root", str(tmp_path)]
    run = ["inference=file", f"inference.path={shadow}", "task=closed_qa", "run.name=shadow"]
    assert main(["run", *run, f"paths.root={tmp_path}", "evaluation.m=2"]) == 0
    capsys.readouterr()
    assert main(["decide", "shadow", *root]) == 2
    assert "tiny-7, star-1" in capsys.readouterr().err
    code = main(["decide", "shadow", "--service", "star-1", *root])
    said = capsys.readouterr().out
    assert code == (0 if said.startswith("MIGRATE") else 1)
    decision = json.loads(next(tmp_path.rglob("decision.json")).read_text())
    assert decision["prompts"] == len(set(prompts))
    assert abs(decision["difference"]["mean"]) < 10  # the same stand-in plays both sides
    whole, *topics = decision["arms"]["arms"]
    assert 0 < whole["local_usd"] < whole["service_usd"]
    assert whole["difference"]["mean"] == pytest.approx(decision["difference"]["mean"])
    assert {arm["topic"] for arm in topics} == {"You are number 0.", "You are number 1."}
    assert "dollars: local $" in said
    assert "  of 'You are number 1.', " in said
    with gateway(tmp_path / "g", "http://127.0.0.1:9/v1") as running:
        assert running.get("/").status_code == 200
    found = verdict.of(tmp_path / "g")
    assert found is None or found.run == "shadow"
    assert main(["decide", "shadow", "--service", "star-1", "--local", "nobody", *root]) == 2


# --- the router ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.routing_worlds import workload

    allocation = learn(workload(80), Goal(), learner="neighbours")
    assert allocation.learnt is not None
    folder = tmp_path_factory.mktemp("router")
    artifact.save(allocation.learnt.router, folder)
    return folder


def test_route_asks_whom_the_router_names_and_falls_back_to_the_other(
    tmp_path: Path, router: Path
) -> None:
    loaded = artifact.load(router)
    texts = [f"add the numbers {n}" for n in range(8)] + [f"prove theorem {n}" for n in range(8)]
    wanted = ["service" if loaded.choose(text) == "large" else "local" for text in texts]
    assert len(set(wanted)) == 2
    with (
        stage() as star,
        stage() as small,
        gateway(
            tmp_path, star.url, of=service(model="large"), mode="route", local=small.url,
            router=str(router),
        ) as running,
    ):  # fmt: skip
        odd = running.post(b'{"messages": [{"role": "user", "content": "half \\ud83d"}]}')
        assert odd.status_code == 200
        by = [running.post(ask(text)).headers["x-understudy-by"] for text in texts]
        assert by == wanted
        small.status = 500
        assert {running.post(ask(text)).headers["x-understudy-by"] for text in texts} == {"service"}


def test_a_router_that_knows_no_service_of_ours_is_not_taken(tmp_path: Path, router: Path) -> None:
    settings = configs.gateway(mode="route", local="http://127.0.0.1:9/v1", router=str(router))
    made = control.first(settings)
    control.write(tmp_path / "control.json", made)
    sentence = "chooses among large, small: none is the service star"
    with pytest.raises(BadInput, match=sentence), gateway(tmp_path, "http://127.0.0.1:9/v1"):
        pass
