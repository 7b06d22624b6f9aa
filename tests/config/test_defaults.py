"""A default stands once: in `conf/`, or beside a field of later work that is not hashed."""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from understudy import config, locations
from understudy.config import Config, Prices, compose
from understudy.config.base import base
from understudy.config.cluster import ByStage, Differing
from understudy.config.groups import CoverageConfig, SynthesisConfig

CONF = locations.shared("conf")
# What no option states where it does not apply: a null is the absence of a price, not its default.
OPTIONAL = {(Prices, "cached"), (Prices, "written"), (Prices, "batch")}
# Dataclasses whose fields are all of later work.
WHOLE = {(CoverageConfig, "columns"), (SynthesisConfig, "columns"), (SynthesisConfig, "dedup")}
# What one kind of stage or one model asks for instead: a null is "the same", in maps of free keys.
INSTEAD = {
    *((Differing, field.name) for field in dataclasses.fields(Differing)),
    *((ByStage, field.name) for field in dataclasses.fields(ByStage)),
}
MINE = "name: mine\nprovider: offline\nmodel: playground-1\nfamily: mine\nterms: null\n"
FACTS = MINE + "temperature: null\nmax_output_tokens: 4096\n"


def dataclasses_in(hint: Any) -> Iterator[Any]:
    """Every dataclass within a type."""
    if dataclasses.is_dataclass(hint):
        yield hint
        for inner in typing.get_type_hints(hint).values():
            yield from dataclasses_in(inner)
    for inner in typing.get_args(hint):
        yield from dataclasses_in(inner)


def with_defaults(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass that have a default which is not that of a later field."""
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        and not field.metadata.get("added")
    }


def test_a_default_stands_in_conf_or_beside_a_field_of_later_work() -> None:
    found = {(kind, name) for kind in dataclasses_in(Config) for name in with_defaults(kind)}
    assert found == OPTIONAL | WHOLE | INSTEAD


def test_no_file_restates_a_default_of_a_dataclass() -> None:
    defaults = {(name, with_defaults(kind)[name]) for kind, name in OPTIONAL}
    for path in CONF.rglob("*.yaml"):
        stated = compose.flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        last = [(leaf.rpartition(".")[2], value) for leaf, value in stated.items()]
        assert not [one for one in last if one in list(defaults)], path


def test_the_base_states_leaves_only() -> None:
    for name in compose.flat(base("_base")):
        assert any(f"{leaf}.".startswith(f"{name}.") for leaf in config.LEAVES), name


@pytest.fixture(scope="module")
def defaults() -> Config:
    return config.build(compose.compose([], None))


def composed(tmp_path: Path, files: dict[str, str], *overrides: str) -> Config:
    """The config of a user's own directory of options."""
    for name, text in files.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return config.build(compose.compose(list(overrides), str(tmp_path)))


@pytest.mark.slow
def test_a_service_of_your_own_states_facts_only(tmp_path: Path, defaults: Config) -> None:
    files = {
        "service/mine": FACTS + "bias:\n  offset: 5\n",
        "judge/mine": "# @package judges\ndefaults:\n  - /service@mine: mine\n",
    }
    mine = composed(tmp_path, files, "judge=mine").judges["mine"]
    theirs = defaults.judges["offline"]
    limits = ("mode", "concurrency", "timeout_s", "attempts", "requests_per_minute", "prices")
    assert all(getattr(mine, name) == getattr(theirs, name) for name in limits)
    assert mine.bias == config.Bias(offset=5, compression=1, ceiling=100, length=0, noise=0)


OPTIONS = dict(
    [
        ("accelerate", "nodes: 1\n"),
        ("baseline", "kind: none\n"),
        ("cluster", "kind: local\nthreads: 1\ngpu:\n  hours: 8\n"),
        ("export", "what: merged\nparity:\n  tokens: 16\n"),
        ("gateway", "port: 8100\n"),
        ("serve", "port: 8000\n"),
        (
            "coverage",
            "kind: playground\nrows: 160\nseed: 0\nlicence: Apache-2.0\n"
            "split:\n  validation: 32\n  test: 64\n  holdout: 0\n",
        ),
        (
            "model",
            "name: tiny\nfamily: understudy\nlicence: Apache-2.0\nrepo: null\nrevision: null\n"
            "path: package:tiny\ncontext: 512\nstop: ['<|im_end|>']\nlora_targets: all-linear\n",
        ),
        ("inference", "k: 4\ntemperature: 0.8\nmax_new_tokens: 256\nbatch_size: 64\n"),
    ]
)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The config of an option of one's own in each group."""
    files = {f"{group}/mine": text for group, text in OPTIONS.items()}
    overrides = [f"{group}=mine" for group in OPTIONS]
    return composed(tmp_path_factory.mktemp("mine"), files, *overrides)


@pytest.mark.parametrize("group", OPTIONS)
def test_an_option_of_your_own_may_leave_out_what_has_a_default(
    group: str, mine: Config, defaults: Config
) -> None:
    own, theirs = getattr(mine, group), getattr(defaults, group)
    if group == "baseline":
        assert own.service is None
    elif group == "cluster":
        assert own == config.changed(theirs, {"gpu.hours": 8.0})
    else:
        assert own == theirs


@pytest.mark.slow
def test_a_recipe_of_your_own_may_leave_out_what_the_machine_decides(tmp_path: Path) -> None:
    full = yaml.safe_load((CONF / "trainer" / "full.yaml").read_text(encoding="utf-8"))
    mine = composed(tmp_path, {"trainer/mine": yaml.safe_dump(full)}, "trainer=mine").trainer
    assert (mine.per_device_batch, mine.attention, mine.rank_by_rows) == (None, "sdpa", {})


def test_a_config_of_an_earlier_version_is_read_with_the_defaults_of_later_leaves(
    defaults: Config,
) -> None:
    values = dataclasses.asdict(defaults)
    whole = config.build(values)
    for group in ("accelerate", "export", "gateway", "serve", "watch"):
        del values[group]
    del values["cluster"]["api"], values["judges"]["offline"]["attempts"]
    assert config.build(values) == whole
