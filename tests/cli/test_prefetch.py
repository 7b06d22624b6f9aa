"""`understudy prefetch`: what is missing is named exactly; what can be had is brought."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support import tiny_model
from understudy.cli.main import main

SHA = "0123456789abcdef0123456789abcdef01234567"
MODEL = ("model.path=null", "model.repo=o/m", f"model.revision={SHA}", "data_size=0")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def prefetch(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    assert main(["prefetch", *words]) == code
    told = capsys.readouterr()
    return told.out + told.err


def snapshot(cache: Path, **files: str) -> None:
    folder = cache / "models--o--m" / "snapshots" / SHA
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_offline_all_that_is_missing_is_named_at_once(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("coverage=hub", "coverage.repo=o/rows", f"coverage.revision={SHA}")
    told = prefetch(capsys, 2, *MODEL, *data, f"paths.root={tmp_path}/runs")
    assert "understudy: 2 missing: coverage: o/rows@" in told
    assert f"model: o/m is not in the cache of this machine ({cache})" in told
    assert "the hub cannot be reached" in told


def test_a_model_of_which_a_part_is_missing_is_told_by_the_part(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = {f"layer{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    index = json.dumps({"weight_map": shards})
    snapshot(cache, config__json="{}", model__safetensors__index__json=index)
    folder = cache / "models--o--m" / "snapshots" / SHA
    (folder / shards["layer1"]).write_text("…")
    told = prefetch(capsys, 2, *MODEL, f"paths.root={tmp_path}/runs")
    assert "model: model-00002-of-00002.safetensors, tokenizer.json of o/m is not in" in told
    (folder / shards["layer2"]).write_text("…")
    (folder / "tokenizer.json").write_text("{}")
    assert f"model o/m@{SHA}: here" in prefetch(capsys, 0, *MODEL, f"paths.root={tmp_path}/runs")


@pytest.mark.slow
def test_what_is_local_is_looked_at_too(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "model package:tiny: here" in prefetch(capsys, 0, f"paths.root={tmp_path}/runs")
    told = prefetch(capsys, 2, f"model.path={tmp_path}/none", f"paths.root={tmp_path}/runs")
    assert "1 missing: model: model.path=" in told


def test_nothing_is_queued_while_a_model_is_missing_and_cannot_be_had(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", *MODEL, "cluster=slurm", f"paths.root={tmp_path}/runs"]
    assert main(command) == 2  # before Slurm, which is not here, is asked
    told = capsys.readouterr().err
    assert f"o/m is not in the cache of this machine ({cache}); where compute nodes" in told
    assert "understudy prefetch with the same words" in told


class _Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/o/m/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": name}
                for name, content in self.files.items()
            ]
            self._answer(json.dumps(tree).encode())
        elif self.path.startswith("/api/models/o/m"):
            about = {"sha": SHA, "siblings": [{"rfilename": name} for name in self.files]}
            self._answer(json.dumps(about | {"id": "o/m", "modelId": "o/m"}).encode())
        elif self.path.startswith(f"/o/m/resolve/{SHA}/"):
            self._answer(self.files[name])
        else:
            self._answer(b"")

    do_HEAD = do_GET

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """A hub that has one model."""
    base = tiny_model.save(tmp_path / "model")
    _Hub.files = {path.name: path.read_bytes() for path in base.iterdir()}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_model_is_brought_into_the_cache_that_hf_home_names(tmp_path: Path, hub: str) -> None:
    def call(**env: str) -> str:
        words = ("prefetch", *MODEL, f"paths.root={tmp_path}/runs")
        done = subprocess.run(
            [sys.executable, "-m", "understudy", *words],
            **{"env": os.environ | {"HF_HOME": str(tmp_path / "home")} | env, "text": True},
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"model o/m@{SHA}: fetched" in call(HF_ENDPOINT=hub, HF_HUB_OFFLINE="0")
    found = tmp_path / "home" / "hub" / "models--o--m" / "snapshots" / SHA
    assert (found / "model.safetensors").is_file()
    assert f"model o/m@{SHA}: here" in call(HF_HUB_OFFLINE="1")
