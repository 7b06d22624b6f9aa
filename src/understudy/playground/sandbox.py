"""Run code that a model wrote, in a fresh process with limits (inside.py).

THIS IS NO SECURITY BOUNDARY. It keeps honest mistakes (endless loops, memory bombs, stray writes,
forks, network calls) away from the run; code that means harm can get around a Python audit hook.
Run what you do not trust at all in a container or a virtual machine.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

_INSIDE = Path(__file__).with_name("inside.py")
_SPARE_S = 30.0  # beyond a job's own limit, before its server is taken for dead
Status = Literal["ok", "syntax", "no function", "error", "timeout"]


class Result(NamedTuple):
    """What one call gave: a JSON value, or the error's type and message."""

    value: Any
    error: str | None


class Ran(NamedTuple):
    """How a job ended: the word of its kind, or cpu, wall (seconds), died, lost, error."""

    status: str
    detail: str
    value: Any = None


class SandboxOutcome(NamedTuple):
    """How the run went; `results` has one entry per input when the status is ok."""

    status: Status
    results: list[Result]
    detail: str


def run_python(
    source: str,
    call: str,
    inputs: list[tuple[Any, ...]],
    timeout: float = 2.0,
    memory_mb: int = 256,
) -> SandboxOutcome:
    """Define `source` in a fresh process and call its function `call` on every input.

    Arguments and results travel as JSON (a tuple comes back as a list); `timeout` is in seconds
    for all inputs together. Source that does not parse never starts a process.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in the answer is not our warning
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return SandboxOutcome("syntax", [], getattr(error, "msg", None) or str(error))
    job: dict[str, Any] = {"kind": "call", "source": source, "call": call, "inputs": inputs}
    job |= {"cpu": math.ceil(timeout) + 1, "memory": memory_mb << 20}
    with tempfile.TemporaryDirectory(prefix="understudy-sandbox-") as folder:
        work, reply = Path(folder, "work"), Path(folder, "reply.json")
        work.mkdir()
        with reply.open("wb") as stdout:
            # The reply is a file, so that the file size limit also bounds what we read back.
            ended = _run_child(json.dumps(job).encode(), stdout.fileno(), work, timeout)
        if not ended:
            return SandboxOutcome("timeout", [], f"not finished after {timeout:g} s")
        try:
            answer = json.loads(reply.read_bytes())
        except ValueError:
            return SandboxOutcome(
                "error", [], "the process ended without an answer, perhaps at a limit"
            )
    results = [Result(*result) for result in answer.get("results", [])]
    return SandboxOutcome(answer["status"], results, answer.get("detail", ""))


def _run_child(job: bytes, stdout: int, work: Path, timeout: float) -> bool:
    """Run the child in its own session; return whether it ended before the timeout."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_INSIDE)],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        cwd=work,
        env={},
        start_new_session=True,
    )
    try:
        child.communicate(job, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    finally:
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return True


class Sandbox:
    """At most `size` jobs at a time, each in a fork of a server that has Python started already.

    A server starts when the first job needs it and ends with the sandbox. It holds nothing of the
    jobs: a fork that is killed, or breaks its limits, takes nothing else with it.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self._idle: queue.LifoQueue[_Server | None] = queue.LifoQueue()
        self._is_isolated = True
        for _ in range(size):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _slot in range(self.size):
            if (server := self._idle.get()) is not None:
                server.stop()

    @property
    def warnings(self) -> list[str]:
        """What the sandbox lacks here."""
        if self._is_isolated:
            return []
        return [
            "sandbox: this kernel lets us leave no network (unshare), so a Python hook alone "
            "refuses sockets to models' code"
        ]

    def run(self, kind: str, *, seconds: float, memory_mb: int, **job: Any) -> Ran:
        """Do one job of inside.py; `seconds` of CPU, and three times as many by the clock."""
        limits = {"cpu": math.ceil(seconds), "wall": 3 * seconds + 5, "memory": memory_mb << 20}
        server = self._idle.get()
        try:
            if server is None:
                server = _Server()
                self._is_isolated &= server.is_isolated
            reply = server.ask(json.dumps({"kind": kind, **job, **limits}), limits["wall"])
            if reply is None:
                server.stop()
                server = None
                return Ran("lost", "the sandbox itself ended")
        finally:
            self._idle.put(server)
        return Ran(reply["status"], reply.get("detail", ""), reply.get("value", reply.get("rows")))


class _Server:
    """A process that waits for jobs."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="understudy-sandbox-")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-B", "-X", "utf8", str(_INSIDE), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"PYTHONHASHSEED": "0"},  # so that sets come in the same order each time
            start_new_session=True,
        )
        hello = self._line(_SPARE_S)
        self.is_isolated = hello is not None and bool(hello["isolated"])

    def ask(self, job: str, wall: float) -> dict[str, Any] | None:
        """Return the reply; None where the server is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(job.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        return self._line(wall + _SPARE_S)

    def _line(self, seconds: float) -> dict[str, Any] | None:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], seconds)[0]:
            return None
        try:
            reply: dict[str, Any] = json.loads(stdout.readline())
        except ValueError:
            return None
        return reply

    def stop(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
