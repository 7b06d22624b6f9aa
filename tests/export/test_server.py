"""Parity with a server: a right one passes, and each way to be wrong is named."""

import copy
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support import chat_server, exports, tiny_model
from understudy.errors import EnvironmentFailed
from understudy.export import checks, merge, parity, server
from understudy.export.parity import FOREIGN, TOLERANCES, Greedy, Report
from understudy.models import load

FP32 = TOLERANCES["float32"]
Made = tuple[checks.Judged, chat_server.Voice]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("served")
    config = tiny_model.build(tiny_model.save(root / "base"), inference__max_new_tokens=24)
    adapter, split = exports.adapter(root / "adapter", config), exports.split(root / "split", 9)
    free = checks.judged(config, adapter, split, 9, 6, torch.float32)
    ends = {"eos_token_id": [2, free.answers[0].tokens[3]]}  # so that an answer ends there
    (root / "base/generation_config.json").write_text(json.dumps(ends))
    then = checks.judged(config, adapter, split, 9, 6, torch.float32)
    merge.merged(config, adapter, torch.float32, root / "merged")
    return then, chat_server.load(root / "merged")


def check(
    then: checks.Judged, voice: chat_server.Voice, allowed: parity.Tolerance = FP32
) -> Report:
    report = Report()
    with chat_server.serving(voice) as url:
        checks.check_server(then, url, "server", allowed, report)
    return report


def ended(then: checks.Judged) -> list[str]:
    """The prompts whose answers ended by themselves."""
    return [one.prompt_id for one in then.greedy if one.is_stopped]


def test_a_right_server_passes(made: Made) -> None:
    then, voice = made
    report = check(then, voice)
    assert report.cause is None
    found = report.measured["server"]
    assert (found["answers"], found["equal_answers"], found["equal_first_tokens"]) == (9, 1, 1)
    assert found["tokens"] > 9
    assert 0 <= found["kl_of_20_likeliest"] < FP32.kl
    assert report.unmeasured == {}


@pytest.mark.slow
def test_a_server_that_never_stops_is_named(made: Made) -> None:
    then, voice = made
    ends = ended(then)
    assert ends
    cause = check(then, replace(voice, stop_ids=frozenset())).cause
    assert cause == (
        f"server: the server does not stop: {len(ends)} of 9 answers that the judged model ended "
        f"run on to the limit, the first to prompt {ends[0]}"
    )


LIKELIEST = [[-0.1, -3.0]] * 5
SAID = Greedy("p", "abcde", True, 3, (1, 2, 3, 4, 5), LIKELIEST)


def test_a_server_that_stops_early_is_named() -> None:
    short = SAID._replace(text="a", tokens=(1, 2), likeliest=LIKELIEST[:2])
    assert parity.server([SAID], [short._replace(is_stopped=False)], FOREIGN)[0]["cut"] == 0
    for allowed in (*TOLERANCES.values(), FOREIGN):
        assert parity.server([SAID] * 3, [short] * 3, allowed)[1] == (
            "the server stops early: 3 of 3 answers end where the judged model goes on, the first "
            "to prompt p"
        )
    assert parity.server([SAID] * 12, [SAID] * 11 + [short], TOLERANCES["bfloat16"])[1] is None


def test_probabilities_are_compared_up_to_the_token_at_which_answers_part() -> None:
    new = SAID._replace(text="abXde", tokens=(1, 2, 9, 4, 5))
    assert parity.server([SAID], [new], FOREIGN)[0]["tokens"] == 3
    assert parity.server([SAID], [new._replace(tokens=None)], FOREIGN)[0]["tokens"] == 1
    off = new._replace(likeliest=[*LIKELIEST[:2], [-2.0, -2.1], *LIKELIEST[3:]])
    cause = parity.server([SAID], [off], FOREIGN)[1]
    assert cause is not None
    assert cause.startswith("the server's probabilities differ from those judged: KL ")


def test_a_distance_without_end_is_written_as_none() -> None:
    report = Report()
    report.found("weights", {"kl": math.inf, "worst": math.nan, "tokens": 3, "at": "p"}, "far")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["measured"] == {
        "weights": {"kl": None, "worst": None, "tokens": 3, "at": "p"}
    }


def test_a_proxy_is_not_asked_for_a_server_of_this_machine(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    then, voice = made
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # discard: nobody listens
    assert check(then, voice).cause is None


@pytest.mark.slow
def test_a_server_with_a_first_token_of_its_own_is_named(made: Made) -> None:
    then, voice = made
    count = len(then.readings[0].ids)
    assert check(then, replace(voice, first=(1,))).cause == (
        f"server: the server reads prompt p0 as {count + 1} tokens and the judged model as "
        f"{count}: its chat template or first token differs"
    )
    cause = check(then, replace(voice, first=(1,), tells_ids=True)).cause
    assert cause is not None
    assert cause.startswith("server: token ids differ at token 0 of prompt p0: ")
    assert cause.endswith(" became '<s>' (1)")


@pytest.mark.slow
def test_a_server_that_computes_in_16_bits_is_told_from_one_in_32(made: Made) -> None:
    then, voice = made
    short = replace(voice, model=copy.deepcopy(voice.model).bfloat16())
    cause = check(then, short).cause
    assert cause is not None
    assert cause.startswith("server: the server's probabilities differ from those judged: KL ")
    found = check(then, short, TOLERANCES["bfloat16"]).measured["server"]
    assert FP32.kl < found["kl_of_20_likeliest"] < FOREIGN.kl


@pytest.mark.slow
def test_a_server_of_another_model_is_named(made: Made) -> None:
    then, voice = made
    base = replace(voice, model=load.base(then.config.model, torch.float32))
    assert check(then, base).cause is not None
    cause = check(then, replace(base, tells_probabilities=False)).cause
    assert cause is not None
    assert cause.startswith("server: the server answers otherwise: ")


def test_a_server_without_probabilities_is_compared_by_its_answers(made: Made) -> None:
    then, voice = made
    report = check(then, replace(voice, tells_probabilities=False))
    assert report.cause is None
    assert report.measured["server"]["kl_of_20_likeliest"] is None
    assert report.unmeasured == {"server, probabilities": "it returns no log-probabilities"}


def test_a_server_that_refuses_is_one_sentence(made: Made) -> None:
    then, voice = made
    with pytest.raises(EnvironmentFailed, match=r"/v1/chat/completions answered 503: .*no"):
        check(then, replace(voice, status=503))


def test_a_server_that_dies_tells_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no room in here')"]
    log, port = tmp_path / "log", server.free_port()
    with (
        pytest.raises(EnvironmentFailed, match=r"ended with exit code 1: no room in here"),
        server.running(command, port, log, 20),
    ):
        pass


def test_a_server_of_the_check_asks_for_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "secret")
    script = "import os; raise SystemExit(str(os.environ.get('UNDERSTUDY_API_KEY')))"
    log, port = tmp_path / "log", server.free_port()
    with (
        pytest.raises(EnvironmentFailed, match=r"exit code 1: None"),
        server.running([sys.executable, "-c", script], port, log, 20),
    ):
        pass


@pytest.mark.slow
def test_a_server_that_is_never_ready_is_given_up_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(60)"]
    log, port = tmp_path / "log", server.free_port()
    with (
        pytest.raises(EnvironmentFailed, match=r"is still not ready: loading"),
        server.running(command, port, log, 1.5),
    ):
        pass
