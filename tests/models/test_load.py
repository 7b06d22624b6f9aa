"""Where a local model's files come from, and the sentences when they do not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support import tiny_model
from understudy.data import sources
from understudy.errors import BadInput
from understudy.models import load

REPO = {"model__repo": "nobody/nothing", "model__revision": "0" * 40}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the real hub nor this machine's cache; loopback only."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


class _NoSuchRepo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that has nothing."""
    from huggingface_hub import constants

    with HTTPServer(("127.0.0.1", 0), _NoSuchRepo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield url
        server.shutdown()
        thread.join()


def test_a_path_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.path=\S+ is no model directory"):
        load.directory(tiny_model.build(tmp_path).model)


def test_a_model_needs_a_path_or_a_repo() -> None:
    with pytest.raises(BadInput, match=r"neither model\.path nor model\.repo"):
        load.directory(tiny_model.build(None).model)


def test_a_name_that_is_not_cached_says_that_the_hub_cannot_be_reached() -> None:
    sentence = r"nobody/nothing@0{40}\) is not in the local cache and the hub cannot be reached"
    with pytest.raises(BadInput, match=sentence):
        load.directory(tiny_model.build(None, **REPO).model)


def test_a_name_that_the_hub_does_not_know_says_so(hub: str) -> None:
    with pytest.raises(BadInput, match=r"model=test \(nobody/nothing@0{40}\) cannot be had"):
        load.directory(tiny_model.build(None, **REPO).model)


def test_a_cached_snapshot_is_used_without_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/models--nobody--nothing/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert load.directory(tiny_model.build(None, **REPO).model) == snapshot


def test_a_model_without_a_revision_is_resolved_once_and_recorded(tmp_path: Path) -> None:
    refs = tmp_path / "cache/models--nobody--nothing/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    record = tmp_path / "hub.json"
    for _ in range(2):
        model = tiny_model.build(None, model__repo="nobody/nothing").model
        assert sources.pinned_model(model, record) == "a" * 40
        (refs / "main").write_text("b" * 40)  # a newer one changes no run below this root
    with pytest.raises(BadInput, match=r"model\.revision of nobody/else is not given, and the hub"):
        sources.pinned_model(tiny_model.build(None, model__repo="nobody/else").model, record)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    base = tiny_model.save(tmp_path / "model")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="has no chat template"):
        load.tokenizer(tiny_model.build(base).model)


def test_the_stop_string_must_be_a_special_token(tmp_path: Path) -> None:
    base = tiny_model.save(tmp_path / "model")
    tokenizer = load.tokenizer(tiny_model.build(base).model)
    assert load.stop_id(tokenizer, tiny_model.build(base).model) == 2
    with pytest.raises(BadInput, match=r"model\.stop=\['the'\] must begin with"):
        load.stop_id(tokenizer, tiny_model.build(base, model__stop=["the"]).model)
