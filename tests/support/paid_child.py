"""A process that asks a scripted service: `python -m support.paid_child ROOT COUNT SECONDS`.

`ROOT/left` gets a line per call that leaves, `ROOT/out` one per reply that is handed out.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from support import paid
from understudy.services.client import ask_provider

ROOT, COUNT, SECONDS = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class Noted(paid.Scripted):
    async def work(self, index: int) -> None:
        os.write(left, f"{index}\n".encode())
        await asyncio.sleep(SECONDS * random.uniform(0.5, 1))


left = os.open(ROOT / "left", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
service = paid.service(concurrency=16)
try:
    with (ROOT / "out").open("a") as out:
        for position, _ in ask_provider(service, Noted(), paid.requests(COUNT), paid.account(ROOT)):
            print(position, file=out, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
