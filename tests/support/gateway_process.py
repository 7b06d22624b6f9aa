"""The gateway as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from support.gateways import until


@contextmanager
def process(root: Path, upstream: str, *settings: str) -> Iterator[tuple[Any, str]]:
    """A gateway as its own process, and its URL."""
    command = [
        *(sys.executable, "-m", "understudy", "gateway", "--root", str(root), "gateway.port=0"),
        *("gateway.service=openai_compatible", f"gateway.service.base_url={upstream}", *settings),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            url = running.stdout.readline().partition("/v1")[0]
            assert url.startswith("http"), running.communicate()[1]
            until(lambda: answers(url))
            yield running, url
        finally:
            running.kill()
            running.communicate()


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
