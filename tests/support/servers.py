"""A server of the shipped tiny model for tests, and plain requests to it."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from support import configs
from understudy import locations
from understudy.config.serve import ServeConfig
from understudy.serve.model import Served, of_directory
from understudy.serve.process import serving

QUESTION = [{"role": "user", "content": "What is the colour of the sky?"}]


class Server(NamedTuple):
    """A running one."""

    url: str
    served: Served
    settings: ServeConfig


@contextmanager
def tiny(key: str | None = None, **settings: Any) -> Iterator[Server]:
    """The shipped model on a loopback port, while the block runs."""
    served, chosen = of_directory(locations.model("package:tiny")), configs.serve(**settings)
    with serving(served, chosen, key) as url:
        yield Server(url, served, chosen)


class Answer(NamedTuple):
    status: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def post(url: str, body: Any, path: str = "/v1/chat/completions", **headers: str) -> Answer:
    """POST bytes, or a value as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    return _ask(urllib.request.Request(url + path, data, given, method="POST"))


def get(url: str, path: str, **headers: str) -> Answer:
    return _ask(urllib.request.Request(url + path, headers=headers))


def _ask(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Answer(response.status, response.headers, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read().decode())


def sent(url: str, **fields: Any) -> socket.socket:
    """A connection that has sent a request, to be read from, or left."""
    body = json.dumps(chat(**fields)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client = connected(url)
    client.sendall(head.encode() + body)
    return client


def connected(url: str) -> socket.socket:
    """A bare connection to a server."""
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)


def chat(**fields: Any) -> dict[str, Any]:
    """A request's body."""
    usual = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 16}
    return {**usual, **fields}


def metric(url: str, name: str) -> float:
    """A counter or gauge without labels, or with those in `name`."""
    for line in get(url, "/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}")
