"""A loopback hub that takes uploads."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
