"""conf/service: every fact is there, dated, and agrees with what the SDKs know."""

import re
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from understudy.config import Config, Service, build
from understudy.config.compose import compose
from understudy.errors import BadInput
from understudy.rehearsal.speaker import Speaker
from understudy.services.providers import open_batch, open_provider

CONF = Path(__file__).parents[2] / "conf"
PAPER = ("gpt_4o", "claude_3_sonnet", "gemini_1_5_flash")
SERVICES = sorted(path.stem for path in (CONF / "service").glob("[!_]*.yaml"))
PAID = [name for name in SERVICES if not name.startswith("offline")]
MAKERS = ("openai", "anthropic", "google")
REHEARSED = "rehearsal.url=http://127.0.0.1:9"
Composed = Callable[..., Config]


def judge(composed: Composed, name: str) -> Service:
    """The service as a judge, from the command line alone."""
    return composed("judge=none", f"+service@judges.{name}={name}", REHEARSED).judges[name]


@pytest.mark.parametrize("name", PAID)
def test_a_service_states_its_facts(name: str, composed: Composed) -> None:
    facts = judge(composed, name)
    assert facts.name == name
    assert facts.temperature is None
    assert (CONF / "service" / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    if facts.provider == "openai_compatible":
        return
    assert facts.family == facts.provider
    assert facts.context is not None
    assert facts.max_output_tokens < facts.context
    assert facts.key_env is not None
    assert (facts.terms or "").startswith("https://")
    assert facts.prices is not None
    assert facts.prices.source.startswith("https://")
    assert date.fromisoformat(facts.prices.date) <= date(2026, 11, 21)
    assert 0 < (facts.prices.cached or facts.prices.input) <= facts.prices.input
    assert facts.prices.input < facts.prices.output


@pytest.mark.parametrize("name", PAID)
def test_a_service_can_be_opened(
    name: str, composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = judge(composed, name)
    assert open_provider(facts, "http://127.0.0.1:9")
    if facts.prices is not None and facts.prices.batch is not None:
        assert open_batch(facts, "http://127.0.0.1:9")


def test_the_papers_three_are_called_as_in_the_paper(composed: Composed) -> None:
    """reference/llamaduo.md, 5.4: ids and output limits of its service LLMs."""
    papers = [judge(composed, name) for name in PAPER]
    models = ["gpt-4o", "claude-3-sonnet-20240229", "gemini-1.5-flash-001"]
    assert [facts.model for facts in papers] == models
    assert {facts.max_output_tokens for facts in papers} == {4096}
    assert {facts.reasoning for facts in papers} == {None}


@pytest.mark.parametrize("maker", MAKERS)
def test_each_maker_has_at_least_two_models_of_today(maker: str, composed: Composed) -> None:
    services = [judge(composed, name) for name in PAID]
    today = [s.name for s in services if s.provider == maker and s.retired is None]
    assert len(set(today) - set(PAPER)) >= 2


def test_a_successor_is_a_service_of_the_same_maker_that_still_answers(composed: Composed) -> None:
    services = {name: judge(composed, name) for name in PAID}
    retired = {name: facts for name, facts in services.items() if facts.retired}
    assert set(retired) == {"claude_3_sonnet", "gemini_1_5_flash"}
    for facts in retired.values():
        assert facts.retired is not None
        assert date.fromisoformat(facts.retired.date) <= date(2026, 11, 21)
        successor = services[facts.retired.successor]
        assert (successor.provider, successor.retired) == (facts.provider, None)


@pytest.mark.slow
def test_a_run_with_a_withdrawn_model_stops_with_date_and_successor() -> None:
    def check(*overrides: str) -> None:
        build(compose([*overrides], None))

    with pytest.raises(BadInput, match=r"claude_3_sonnet .* on 2025-07-21; .*claude_sonnet_5_5"):
        check("judge=claude_3_sonnet")
    check("judge=claude_3_sonnet", "judges.claude_3_sonnet.base_url=http://127.0.0.1:9")
    check("judge=claude_3_sonnet", REHEARSED)
    with pytest.raises(BadInput, match=r"base_url=…"):
        check("judge=openai_compatible")
    check("judge=openai_compatible", "judges.openai_compatible.base_url=http://127.0.0.1:9/v1")


def test_anthropics_sdk_knows_the_models_and_their_last_days(composed: Composed) -> None:
    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types import Model

    known = {name for member in get_args(Model) for name in get_args(member)}
    for facts in (judge(composed, name) for name in PAID):
        if facts.provider != "anthropic":
            continue
        if facts.retired is None:
            assert facts.model in known - set(DEPRECATED_MODELS)
        else:
            day = re.sub(r"(\d)(st|nd|rd|th)", r"\1", DEPRECATED_MODELS[facts.model])
            last = datetime.strptime(day, "%B %d, %Y").date()
            assert last.isoformat() == facts.retired.date


def test_openais_sdk_knows_the_models_and_which_one_goes_when(composed: Composed) -> None:
    import openai.types.shared.chat_model as known

    services = [judge(composed, name) for name in PAID]
    ours = {facts.model for facts in services if facts.provider == "openai"}
    assert ours <= set(get_args(known.ChatModel))
    source = Path(known.__file__).read_text(encoding="utf-8")
    doomed = source.partition('"""Deprecated values:')[2]
    assert {model for model in ours if f'"{model}"' in doomed} == {"gpt-4o"}
    words = " ".join(doomed[doomed.index('"gpt-4o",') :].split())
    assert "Announced shutdown date: 2027-01-14" in words.partition("See https")[0]


def test_the_rehearsal_bills_every_service_at_its_own_price(composed: Composed) -> None:
    speaker = Speaker()
    for name in PAID:
        facts = judge(composed, name)
        known = speaker.facts(facts.model, "nobody")
        assert (known.prices, known.family) == (facts.prices, facts.family)


ROLES = [
    (group, path.stem)
    for group in ("judge", "synthesis", "baseline")
    for path in sorted((CONF / group).glob("*.yaml"))
    if path.stem not in ("none", "file", "hub") and "graders:" not in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "option"), ROLES)
def test_every_role_composes_and_names_its_services_rightly(
    group: str, option: str, composed: Composed
) -> None:
    config = composed(f"{group}={option}", REHEARSED)
    roles = {
        "judge": config.judges,
        "synthesis": {option: config.synthesis.service},
        "baseline": {option: config.baseline.service},
    }
    services = roles[group]
    assert {name for name, facts in services.items()} == {facts.name for facts in services.values()}
    assert config.is_rehearsal


@pytest.mark.parametrize(
    ("panel", "names"),
    [
        ("paper_panel", set(PAPER)),
        ("today_panel", {"gpt_6_1_terra", "claude_sonnet_5_5", "gemini_3_8_flash"}),
    ],
)
def test_a_panel_has_a_judge_of_each_maker(panel: str, names: set[str], composed: Composed) -> None:
    judges = composed(f"judge={panel}", REHEARSED).judges
    assert set(judges) == names
    assert {facts.family for facts in judges.values()} == set(MAKERS)


def test_any_service_can_be_borrowed_without_a_file_of_its_own(composed: Composed) -> None:
    config = composed(
        "judge=none",
        "+service@judges.gpt_6_luna=gpt_6_luna",
        "synthesis=gpt_4o",
        "service@synthesis.service=claude_haiku_5_5",
        "baseline=gpt_4o",
        "service@baseline.service=gemini_3_5_flash_lite",
        REHEARSED,
    )
    borrowed = [service.name for service in config.services]
    assert borrowed == ["gpt_6_luna", "claude_haiku_5_5", "gemini_3_5_flash_lite"]


def test_what_differs_between_twins_is_said_and_nothing_else() -> None:
    """A file that builds on another restates every price: none may leak from the other."""
    for name in PAID:
        values: dict[str, Any] = yaml.safe_load(
            (CONF / "service" / f"{name}.yaml").read_text(encoding="utf-8")
        )
        if values["defaults"] != ["_limits", "_self_"]:
            twin = (CONF / "service" / f"{values['defaults'][0]}.yaml").read_text(encoding="utf-8")
            assert set(yaml.safe_load(twin)["prices"]) <= set(values["prices"])


def test_the_config_stays_small_enough_to_read() -> None:
    assert len(list(CONF.rglob("*.yaml"))) <= 137
