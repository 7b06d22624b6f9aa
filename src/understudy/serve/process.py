"""The app on a port: in a thread, for tests and the parity check, or as the whole process."""

import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from understudy.config.serve import ServeConfig
from understudy.errors import BadInput, EnvironmentFailed
from understudy.serve.app import app
from understudy.services.callers import SHORTEST

if TYPE_CHECKING:
    from understudy.serve import Engine
    from understudy.serve.model import Served

KEY = "UNDERSTUDY_API_KEY"
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """Ends gently at the first signal and at once at the second; raises none of them again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            sys.stderr.flush()
            os._exit(128 + sig)
        self.should_exit = True


@contextmanager
def serving(
    served: "Served", settings: ServeConfig, key: str | None = None, kind: Any = None
) -> Iterator[str]:
    """Serve on a free loopback port in a thread of this process; yields the URL before `/v1`."""
    with listen("127.0.0.1", 0) as listening, engine_of(served, settings, kind) as engine:
        server = _server(served, settings, engine, key)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise EnvironmentFailed("the server did not start")
            time.sleep(0.01)
        try:
            yield url_of(listening)
        finally:
            server.should_exit = True
            thread.join()


def run(served: "Served", settings: ServeConfig, listening: socket.socket, key: str | None) -> None:
    """Serve until a signal: what is under way ends, what is new is refused."""
    began = time.monotonic()
    with engine_of(served, settings) as engine:
        server = _server(served, settings, engine, key)
        took = time.monotonic() - began
        print(
            f"serving {settings.name or served.name} on {url_of(listening)}/v1 with {engine.about}"
            f"{'' if key is None else f', key in {KEY}'} (loaded in {took:.1f} s; Ctrl-C ends)",
            flush=True,
        )
        server.run([listening])


def check(settings: ServeConfig) -> None:
    """Raise BadInput where the settings ask for a vLLM that is not there."""
    if settings.engine == "vllm":
        from understudy.serve import vllm

        vllm.check(settings.python)


@contextmanager
def engine_of(served: "Served", settings: ServeConfig, kind: Any = None) -> "Iterator[Engine]":
    """The engine that `serve.engine` names; transformers computes in dtype `kind`."""
    if settings.engine == "vllm":
        from understudy.serve.vllm import vllm_engine

        with vllm_engine(served, settings) as engine:
            yield engine
        return
    from understudy.serve.engine import TransformersEngine

    yield TransformersEngine(served, settings, kind)


def _server(served: "Served", settings: ServeConfig, engine: "Engine", key: str | None) -> _Server:
    return _Server(
        uvicorn.Config(
            app(served, settings, engine, key),
            lifespan="on",
            ws="none",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.patience_s)),
        )
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; BadInput when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BadInput(f"serve.host={host} serve.port={port} cannot be had: {why}") from None


def url_of(listening: socket.socket) -> str:
    """`http://HOST:PORT`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def key_for(host: str) -> str | None:
    """The key from the environment; BadInput where others can reach the address without one."""
    key = os.environ.get(KEY, "").strip() or None
    if key is None and not _is_loopback(host):
        raise BadInput(
            f"serve.host={host} is open to other machines: put a key into the environment "
            f"variable {KEY}, or serve on 127.0.0.1"
        )
    if key is not None and len(key) < SHORTEST and not _is_loopback(host):
        raise BadInput(
            f"serve.host={host} is open to other machines: the key in {KEY} has {len(key)} "
            f"characters, and needs {SHORTEST}"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
