"""The server alone: `python -m understudy.rehearsal --latency 1` prints its URL."""

import argparse
import contextlib
import threading

from understudy.rehearsal import options
from understudy.rehearsal.server import RehearsalServer

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="understudy.rehearsal")
    options.add_to(parser)
    with (
        RehearsalServer(**options.settings(parser.parse_args())) as server,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(server.url, flush=True)
        threading.Event().wait()
