"""What the scripts of all clients have in common: calls by name, and a line of JSON for each.

A call works, or is refused by an error of the client's own kind with a message: anything else
(another exception, an empty answer) is a failure.
"""

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

ASK = "What is the weather in Paris for the next 3 days?"
TURNS: Any = [{"role": "user", "content": ASK}]
SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
URL, MODEL = sys.argv[1], sys.argv[2]


def run(
    package: str, refusals: tuple[type[Exception], ...], calls: dict[str, Callable[[], Any]]
) -> None:
    """Make the calls of a client and print what became of them."""
    for name, call in calls.items():
        row = {"client": package, "version": version(package), "call": name}
        try:
            said = call()
        except refusals as error:
            status = getattr(error, "status_code", None) or getattr(error, "code", None)
            row |= {"result": "refused", "status": status, "said": str(error)[:300]}
        except Exception as error:  # what a user of the client would see
            row |= {"result": "failed", "said": f"{type(error).__name__}: {error}"[:600]}
        else:
            row |= {"result": "works" if said else "failed", "said": str(said)[:120]}
        print(json.dumps(row), flush=True)
