"""What runs in a process of the sandbox: limits, then the hook, then code that a model wrote.

    python -I -S -B -X utf8 inside.py          one job on stdin, its reply on stdout
    python -P -s -S -B -X utf8 inside.py serve jobs one after the other, each in a fork of its own

It is read as a script, by path, so it imports the standard library only. A job is a JSON object on
one line: `kind` (the functions at the end), what that kind reads, `cpu` (seconds), `memory` (bytes)
and, of `serve`, `wall` (seconds). A fork starts in about a millisecond where a Python takes 20.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections import Counter
from typing import Any

Job = dict[str, Any]
_NEW_USER_AND_NETWORK = 0x10000000 | 0x40000000  # CLONE_NEWUSER | CLONE_NEWNET
_MOST = 1 << 20  # bytes of a reply, and of any file
_ROWS = 200_000  # of a query's result that are compared
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PREFIXES = (
    *("socket.", "subprocess.", "ctypes.", "shutil.", "ftplib.", "urllib.", "os.exec", "os.fork"),
    *("os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.startfile", "pty."),
    *("signal.pthread_kill", "sys.addaudithook", "gc."),
)
_CHANGES = (
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link"),
    *("os.symlink", "os.truncate", "os.utime", "os.chdir", "os.setxattr", "os.mkfifo"),
)
_READS = ("open", "os.listdir", "os.scandir")


def without_network() -> bool:
    """Leave the network of this machine; False where the kernel does not let us."""
    try:
        return int(ctypes.CDLL(None).unshare(_NEW_USER_AND_NETWORK)) == 0
    except (OSError, AttributeError):
        return False  # no Linux: the audit hook alone refuses sockets


def guard(job: Job) -> None:
    """Set the limits, then refuse what an answer has no business with."""
    for name, limit in (
        *(("CPU", job["cpu"]), ("AS", job["memory"]), ("FSIZE", _MOST)),
        *(("NPROC", 0), ("NOFILE", 32), ("CORE", 0)),
    ):
        # A system may lack this limit, or have a lower one already.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (limit, limit))
    here = os.getcwd() + os.sep
    sys.path += job.get("paths", [])
    library = tuple(os.path.realpath(path) for path in sys.path if path)
    # The user's own function may use libraries, which load others.
    prefixes = tuple(one for one in _PREFIXES if job["kind"] != "grade" or one != "ctypes.")

    def refuse(
        event: str, args: tuple[Any, ...], real: Any = os.path.realpath, decode: Any = os.fsdecode
    ) -> None:
        if event.startswith(prefixes):
            raise PermissionError(event + " is refused")
        if event in _READS or event in _CHANGES:
            paths = [a for a in args[: 1 if event in _READS else 2] if isinstance(a, (str, bytes))]
            writes = event in _CHANGES or (event == "open" and (args[2] or 0) & _WRITES)
            for path in paths:
                path = real(decode(path))
                inside = (path + os.sep).startswith(here)
                if not inside and (writes or not path.startswith(library)):
                    raise PermissionError(event + " outside the sandbox is refused")

    sys.addaudithook(refuse)


def run(job: Job) -> dict[str, Any]:
    """Do a job in this process, which is spent by it."""
    return {"call": _call, "tests": _tests, "sql": _sql, "grade": _grade}[job["kind"]](job)


def once() -> None:
    """Do the one job of stdin; models' code cannot reach the true stdout but by its number."""
    job = json.loads(sys.stdin.buffer.read())
    out = _to_null()
    without_network()
    guard(job)
    os.write(out, json.dumps(run(job)).encode())
    os._exit(0)


def serve() -> None:
    """Do jobs until stdin ends; this folder is ours."""
    # Read here once for all forks; a process of one job is quicker without them.
    import ast  # noqa: F401
    import random
    import sqlite3  # noqa: F401

    isolated = without_network()
    sys.stdout.write(json.dumps({"isolated": isolated}) + "\n")
    sys.stdout.flush()
    random.seed(0)  # so that code which draws gives the same each time
    while line := sys.stdin.buffer.readline():
        reply = _in_fork(json.loads(line))
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def _in_fork(job: Job) -> dict[str, Any]:
    """What a job gives in a process of its own, which is dead afterwards."""
    import shutil

    work = os.path.join(os.getcwd(), "work")
    os.mkdir(work)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(read)
            _to_null()
            os.chdir(work)
            guard(job)
            said = json.dumps(run(job)).encode()
        except BaseException as error:
            said = json.dumps({"status": "error", "detail": _said(error)}).encode()
        while said:
            said = said[os.write(write, said) :]
        os._exit(0)
    os.close(write)
    content, is_late = _read(read, job["wall"])
    os.close(read)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    shutil.rmtree(work, ignore_errors=True)
    try:
        reply = json.loads(content)
    except ValueError:
        reply = None
    if isinstance(reply, dict) and not is_late:
        return reply
    if usage.ru_utime + usage.ru_stime >= job["cpu"] - 0.5:
        return {"status": "cpu", "detail": f"it needed more than {job['cpu']} s of CPU"}
    if is_late:
        return {"status": "wall", "detail": f"not finished after {job['wall']:g} s"}
    ended = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no answer"
    return {"status": "died", "detail": f"the process ended with {ended}, perhaps at a limit"}


def _read(pipe: int, wall: float) -> tuple[bytes, bool]:
    """What a fork writes, at most `_MOST` bytes, and whether it is late; ends with our parent."""
    content, until = b"", time.monotonic() + wall
    while len(content) <= _MOST:
        ready, _, _ = select.select([pipe, 0], [], [], max(0.0, until - time.monotonic()))
        if 0 in ready:  # nothing comes before our reply but the end
            os._exit(0)
        if not ready:
            return content, True
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        content += part
    return content, False


def _to_null() -> int:
    """Close the standard streams; returns where stdout went, by another number."""
    out, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return out


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _call(job: Job) -> dict[str, Any]:
    """`source` defines a function `call`; its value for each of `inputs`."""
    space: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(job["source"], "<answer>", "exec"), space)
    except BaseException as error:
        return {"status": "error", "detail": _said(error)}
    function = space.get(job["call"])
    if not callable(function):
        return {"status": "no function", "detail": "no function named " + job["call"]}
    results: list[list[Any]] = []
    for values in job["inputs"]:
        try:
            results.append([json.loads(json.dumps(function(*values))), None])
        except BaseException as error:
            results.append([None, _said(error)])
    return {"status": "ok", "results": results}


def _tests(job: Job) -> dict[str, Any]:
    """`source` passes `tests`: what they assert, their test_* functions, and check(`entry`)."""
    space: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(job["source"], "<answer>", "exec"), space)
        if job["entry"] and not callable(space.get(job["entry"])):
            return {"status": "failed", "detail": f"it defines no function {job['entry']}"}
        before = set(space)
        exec(compile(job["tests"], "<tests>", "exec"), space)
        if job["entry"] and callable(space.get("check")):
            space["check"](space[job["entry"]])
        for name in space.keys() - before:
            if name.startswith("test_") and callable(space[name]):
                space[name]()
    except BaseException as error:
        said = _said(error)
        return {
            "status": "failed",
            "detail": "a test fails" if said == "AssertionError: " else said,
        }
    return {"status": "passed", "detail": ""}


def _sql(job: Job) -> dict[str, Any]:
    """Whether `answer` gives the rows of `reference` on `database`; in order if that orders."""
    import sqlite3

    # Nothing here writes: the file is opened read-only, and only reading statements are let pass.
    allowed = (
        *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION),
        sqlite3.SQLITE_RECURSIVE,
    )
    link = sqlite3.connect(job["database"], uri=True)
    link.text_factory = lambda text: text.decode("utf-8", "replace")
    link.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY
    )
    found = []
    for name in ("reference", "answer"):
        try:
            rows = link.execute(job[name]).fetchmany(_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
            return {"status": f"{name}_error", "detail": _said(error)}
        if len(rows) > _ROWS:
            return {"status": f"{name}_error", "detail": f"more than {_ROWS} rows"}
        found.append([tuple(map(_cell, row)) for row in rows])
    wanted, given = found
    is_same = wanted == given if job["in_order"] else Counter(wanted) == Counter(given)
    if is_same:
        return {"status": "same", "detail": "", "rows": len(wanted)}
    what = "other rows"
    if len(wanted) != len(given):
        what = f"{len(given)} rows, not {len(wanted)}"
    elif Counter(wanted) == Counter(given):
        what = "the rows in another order"
    return {"status": "different", "detail": f"it gives {what}", "rows": len(wanted)}


def _cell(value: Any) -> Any:
    """A value as it is compared: numbers to nine digits, whatever sums they come from."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _grade(job: Job) -> dict[str, Any]:
    """What the user's function `call` of `source` says of an answer."""
    space: dict[str, Any] = {"__name__": "grader", "__file__": job["file"]}
    exec(compile(job["source"], job["file"], "exec"), space)
    return {"status": "ok", "value": space[job["call"]](*job["inputs"])}


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        once()
