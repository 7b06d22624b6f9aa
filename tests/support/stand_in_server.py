"""An OpenAI-compatible server over the offline stand-ins, as slow as it is told to be."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from support import configs
from understudy.config.base import base
from understudy.services.base import Request
from understudy.services.providers.offline.calls import Offline


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server: Any = self.server
        with server.guard:
            server.open += 1
            server.most = max(server.most, server.open)
        time.sleep(server.seconds)
        reply = server.voice.answer(Request(body["messages"], next(server.numbers)))
        with server.guard:
            server.open -= 1
        usage = {"prompt_tokens": reply.usage.input, "completion_tokens": reply.usage.output}
        message = {"role": "assistant", "content": reply.text}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish}
        self._answer(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
                "usage": usage | {"total_tokens": sum(usage.values())},
            }
        )

    def _answer(self, found: dict[str, Any]) -> None:
        content = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(seconds: float) -> Iterator[Any]:
    """Serve in a thread; `url` ends in /v1, `most` counts the calls that were open at once."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    facts = {name: value for name, value in base("service/offline").items() if name != "defaults"}
    server.voice = Offline(configs.service(**facts))
    server.seconds, server.numbers, server.guard = seconds, count(), threading.Lock()
    server.open = server.most = 0
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
