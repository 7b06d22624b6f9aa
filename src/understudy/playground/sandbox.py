"""Run a function that a model wrote, in a fresh process with limits.

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
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

Status = Literal["ok", "syntax", "no function", "error", "timeout"]


class Result(NamedTuple):
    """What one call gave: a JSON value, or the error's type and message."""

    value: Any
    error: str | None


class SandboxOutcome(NamedTuple):
    """How the run went; `results` has one entry per input when the status is ok."""

    status: Status
    results: list[Result]
    detail: str


# Runs in the child. Limits come first, then the hook, then the model's code.
_CHILD = r"""
import ctypes, json, os, resource, sys
job = json.loads(sys.stdin.buffer.read())
out = os.dup(1)
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
try:
    ctypes.CDLL(None).unshare(0x10000000 | 0x40000000)  # CLONE_NEWUSER | CLONE_NEWNET
except (OSError, AttributeError):
    pass  # no Linux: the audit hook alone refuses sockets
for name, limit in (("CPU", job["cpu"]), ("AS", job["memory"]), ("FSIZE", 1 << 20),
                    ("NPROC", 0), ("NOFILE", 32), ("CORE", 0)):
    try:
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
    except (OSError, ValueError, AttributeError):
        pass  # a system without this limit, or with a lower one already
here = os.getcwd() + os.sep
library = tuple(os.path.realpath(path) for path in sys.path if path)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
PREFIXES = ("socket.", "subprocess.", "ctypes.", "shutil.", "ftplib.", "urllib.", "os.exec",
            "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.startfile",
            "pty.", "signal.pthread_kill", "sys.addaudithook", "gc.")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link",
           "os.symlink", "os.truncate", "os.utime", "os.chdir", "os.setxattr", "os.mkfifo")
READS = ("open", "os.listdir", "os.scandir")
def refuse(event, args, real=os.path.realpath, decode=os.fsdecode):
    if event.startswith(PREFIXES):
        raise PermissionError(event + " is refused")
    if event in READS or event in CHANGES:
        paths = [a for a in args[: 1 if event in READS else 2] if isinstance(a, (str, bytes))]
        writes = event in CHANGES or event == "open" and (args[2] or 0) & WRITES
        for path in paths:
            path = real(decode(path))
            if not (path + os.sep).startswith(here) and (writes or not path.startswith(library)):
                raise PermissionError(event + " outside the sandbox is refused")
sys.addaudithook(refuse)
def run():
    space = {"__name__": "answer"}
    try:
        exec(compile(job["source"], "<answer>", "exec"), space)
    except BaseException as error:
        return {"status": "error", "detail": type(error).__name__ + ": " + str(error)[:200]}
    function = space.get(job["call"])
    if not callable(function):
        return {"status": "no function", "detail": "no function named " + job["call"]}
    results = []
    for values in job["inputs"]:
        try:
            results.append([json.loads(json.dumps(function(*values))), None])
        except BaseException as error:
            results.append([None, type(error).__name__ + ": " + str(error)[:200]])
    return {"status": "ok", "results": results}
os.write(out, json.dumps(run()).encode())
os._exit(0)
"""


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
    job: dict[str, Any] = {"source": source, "call": call, "inputs": inputs}
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
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _CHILD],
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
