"""The sandbox: model-written code runs apart, with limits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from understudy.playground import sandbox
from understudy.playground.sandbox import run_python


def error_of(source: str) -> str:
    """Run f(1) and return what stopped it."""
    outcome = run_python(source, "f", [(1,)], timeout=5)
    if outcome.status == "ok":
        return outcome.results[0].error or f"no error, but {outcome.results[0].value!r}"
    return f"{outcome.status}: {outcome.detail}"


def test_values_go_in_and_out_as_json() -> None:
    source = "def f(a, b):\n    return {'sum': a + b, 'pair': (a, b)}"
    outcome = run_python(source, "f", [(1, 2), ([3], [4])])
    assert outcome.status == "ok"
    assert [result.value for result in outcome.results] == [
        {"sum": 3, "pair": [1, 2]},
        {"sum": [3, 4], "pair": [[3], [4]]},
    ]


def test_one_failing_input_does_not_hide_the_others() -> None:
    outcome = run_python("def f(a):\n    return 6 // a", "f", [(0,), (3,)])
    assert outcome.results[0].error == "ZeroDivisionError: integer division or modulo by zero"
    assert outcome.results[1] == (2, None)


def test_a_syntax_error_never_starts_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.subprocess, "Popen", None)
    for source in ("def f(a:", "def f(a):\nreturn", "x = '\0'", "(" * 5000):
        assert run_python(source, "f", [(1,)]).status == "syntax"


def test_a_missing_function_and_failing_code_are_told_apart() -> None:
    assert run_python("def g(a): pass", "f", [(1,)]).status == "no function"
    assert error_of("import nosuchmodule") == (
        "error: ModuleNotFoundError: No module named 'nosuchmodule'"
    )
    assert error_of("import sys\ndef f(a): sys.exit()").startswith("SystemExit")


def test_printing_does_not_disturb_the_answer() -> None:
    outcome = run_python("print('x')\ndef f(a):\n    print('y' * 99)\n    return a", "f", [(1,)])
    assert outcome.results == [(1, None)]


def test_the_standard_library_can_be_imported() -> None:
    source = "import math, re, itertools, collections\ndef f(a): return math.sqrt(a)"
    assert run_python(source, "f", [(9,)]).results == [(3.0, None)]


def test_an_endless_loop_is_stopped_at_the_timeout() -> None:
    began = time.perf_counter()
    outcome = run_python("def f(a):\n    while True: pass", "f", [(1,)], timeout=0.5)
    assert outcome.status == "timeout"
    assert time.perf_counter() - began < 3


def test_memory_bombs_fail_inside_the_child() -> None:
    assert error_of("def f(a): return [0] * 10**9").startswith("MemoryError")


@pytest.mark.parametrize(
    "body",
    [
        "import socket; return socket.socket().fileno()",
        "import socket; return socket.create_connection(('127.0.0.1', 9), 1)",
        "import urllib.request; return urllib.request.urlopen('http://127.0.0.1:9').read()",
        "import os; return os.fork()",
        "import os; return os.system('true')",
        "import os; os.execv('/bin/true', ['true'])",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.kill(os.getppid(), 0)",
        "import subprocess; return subprocess.run(['true']).returncode",
        "import ctypes; return ctypes.CDLL(None).getpid()",
    ],
)
def test_network_and_processes_are_refused(body: str) -> None:
    assert "is refused" in error_of(f"def f(a): {body}")


def test_files_outside_its_own_folder_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    for body in (
        f"open({str(victim)!r}, 'w')",
        f"open({str(victim)!r}).read()",
        f"open({str(tmp_path / 'new')!r}, 'a')",
        "open('../escape', 'w')",
        f"__import__('os').remove({str(victim)!r})",
        f"__import__('os').rename({str(victim)!r}, 'here')",
        f"__import__('os').symlink({str(victim)!r}, 'link')",
        f"__import__('os').mkdir({str(tmp_path / 'folder')!r})",
    ):
        assert "outside the sandbox is refused" in error_of(f"def f(a): return {body}"), body
    assert victim.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["victim.txt"]


def test_its_own_folder_can_be_written_a_little() -> None:
    write = "def f(a):\n    open('x', 'w').write('h' * a)\n    return len(open('x').read())"
    outcome = run_python(write, "f", [(10,), (10**8,)])
    assert outcome.results[0].value == 10
    assert "File too large" in (outcome.results[1].error or "")


def test_the_environment_is_empty() -> None:
    source = "import os\ndef f(a): return sorted(set(os.environ) - {'LC_CTYPE'})"
    assert run_python(source, "f", [(1,)]).results == [([], None)]


def test_a_run_takes_a_fraction_of_a_second() -> None:
    began = time.perf_counter()
    for _ in range(5):
        run_python("def f(a): return a", "f", [(1,)])
    assert time.perf_counter() - began < 2.5
