"""The gateway as a process: one per directory, and nobody who is slow on purpose holds it up."""

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from understudy.errors import BadInput, EnvironmentFailed
from understudy.gateway.app import application
from understudy.gateway.gate import Gate
from understudy.store.artifacts import write_atomically

ADDRESS = "address.json"
_END_S = 30  # that requests in flight have when the gateway ends


class Patient(H11Protocol):
    """Ends connections whose client sends no whole head, or takes nothing, within `client_s`."""

    client_s = 30.0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = self._later(self.timeout_keep_alive_handler)
        self._write: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        for timer in (self._head, self._write):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Begin to wait when a part of a head has come; a byte now and then helps nobody."""
        super().data_received(data)
        is_between = self.cycle is None or self.cycle.response_complete
        if not is_between and self._head is not None:
            self._head.cancel()
            self._head = None
        elif is_between and self._head is None and not self.transport.is_closing():
            self._head = self._later(self.timeout_keep_alive_handler)

    def pause_writing(self) -> None:
        """Begin to wait for a client that takes nothing."""
        super().pause_writing()
        self._write = self._later(self.transport.abort)

    def resume_writing(self) -> None:
        """The client goes on."""
        super().resume_writing()
        if self._write is not None:
            self._write.cancel()
            self._write = None

    def on_response_complete(self) -> None:
        """Hang up on who never takes the end of what was sent."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._later(self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, at once when it does not empty."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self._later(self.transport.abort)

    def _later(self, act: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(self.client_s, act)


def server(gate: Gate) -> uvicorn.Server:
    """The server, not yet running."""
    protocol = type("Patient", (Patient,), {"client_s": gate.config.client_s})
    config = uvicorn.Config(
        application(gate),
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # a request that is no HTTP is no news
        access_log=False,  # it would hold addresses and paths; requests/ has what is wanted
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_S,
        backlog=4096,
    )
    return uvicorn.Server(config)


@contextmanager
def bound(gate: Gate) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and its URL; the directory is this process's alone meanwhile."""
    host, port = gate.config.host, gate.config.port
    gate.directory.mkdir(parents=True, exist_ok=True)
    with (gate.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            there = running(gate.directory)
            raise BadInput(
                f"a gateway runs in {gate.directory} already: {there.url if there else 'it starts'}"
            ) from None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # By its number, or asyncio takes it for no TCP and leaves Nagle's delay of 40 ms on.
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((host, port))
            except OSError as error:
                raise EnvironmentFailed(
                    f"{host}:{port} cannot be opened ({error.strerror}); choose another "
                    "gateway.port, or 0 for a free one"
                ) from None
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{listening.getsockname()[1]}"
            address = gate.directory / ADDRESS
            said = {"url": url, "pid": os.getpid(), "key_env": gate.config.key_env}
            write_atomically(address, json.dumps(said) + "\n")
            try:
                yield listening, url
            finally:
                address.unlink(missing_ok=True)


@dataclass(frozen=True)
class Address:
    """Where a gateway is, and the environment variable with the key that it wants."""

    url: str
    pid: int
    key_env: str | None


def running(directory: Path) -> Address | None:
    """The gateway of a directory, as it has written it; None where none has."""
    try:
        return Address(**json.loads((directory / ADDRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
