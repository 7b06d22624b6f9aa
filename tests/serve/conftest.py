"""The tiny model's server and OpenAI's client of it, once for each file of tests."""

from collections.abc import Iterator

import openai
import pytest

from support import servers
from support.servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with servers.tiny() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as made:
        yield made
