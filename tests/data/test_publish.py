"""Pushing a training set to the hub, played by a server on this machine."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import pools
from support.hubs import TOKEN, Hub
from understudy.config import Config


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def push(
    hub: Hub, root: Path, out: Path, *more: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    command = ["export-data", "small", "--root", str(root), "--out", str(out), "--push", "me/rows"]
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-m", "understudy", *command, *more],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def root(composed: Callable[..., Config]) -> Path:
    small = ("coverage.rows=40", "coverage.split.test=4", "coverage.split.validation=4")
    config = composed(*small, "data_size=10", "run.name=small")
    pools.training_set(config)
    return Path(config.paths.root)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "visibility"), [([], "private"), (["--public"], "public")])
def test_a_push_makes_a_data_set_of_the_files_and_the_card(
    flags: list[str], visibility: str, hub: Hub, root: Path, tmp_path: Path
) -> None:
    done = push(hub, root, tmp_path / "out", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/datasets/me/rows/commit/{'a' * 40}"
    (made,) = hub.made
    assert (made["name"], made["organization"], made["type"]) == ("rows", "me", "dataset")
    assert made["visibility"] == visibility
    written = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert hub.files == written
    assert set(written) == {"README.md", "train.jsonl", "validation.jsonl"}
    assert len(written["train.jsonl"].splitlines()) == 42


@pytest.mark.slow
@pytest.mark.parametrize(("token", "breaks_off"), [("hf_wrong", False), (TOKEN, True)])
def test_a_hub_that_refuses_or_breaks_off_is_one_sentence(
    token: str, breaks_off: bool, hub: Hub, root: Path, tmp_path: Path
) -> None:
    hub.breaks_off = breaks_off
    done = push(hub, root, tmp_path / "out", token=token)
    assert done.returncode == 2
    assert "me/rows was not pushed: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert hub.files == {}
