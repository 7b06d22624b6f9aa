"""Pushing a training set to the hub, played by a server on this machine."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import pools
from understudy.config import Config

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """What `HfApi.create_repo` and `upload_folder` ask, and a repository in memory."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, str] = {}
        self.breaks_off = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        missing = self.path.startswith("/api/datasets/")
        self._answer(*((404, {"error": "Repository not found"}) if missing else (200, {})))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.server.breaks_off:
            return
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self._answer(200, {"url": f"{self.server.url}/datasets/me/rows"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            kind = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer(200, {"files": [{"path": name, **kind} for name in names]})
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"warnings": [], "errors": []})
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"]).decode(errors="replace")
                    self.server.files[line["value"]["path"]] = content
            url = f"{self.server.url}/datasets/me/rows/commit/{'a' * 40}"
            self._answer(200, {"success": True, "commitOid": "a" * 40, "commitUrl": url})

    def _answer(self, status: int, found: dict[str, Any]) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


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
