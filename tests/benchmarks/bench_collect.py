"""`understudy collect` on 1,000,000 logged calls: `python tests/benchmarks/bench_collect.py`.

Printed are seconds, processor time and the memory of all processes together at its peak; the wish
is at most 60 s and 500 MB on two cores. A line is a request and its response, of about 1.1 KB:
one in ten holds an e-mail address and a phone number, one in 50 repeats an earlier call, one in
1,000 is broken. `--lines 100000` is a quick look; `--halves` puts requests and answers into files
of their own, as batches do. `--before CHECKOUT` reads the same file with another checkout, too, in
turn, `--rounds` times each, and prints the medians' ratio of user time, which other load on the
machine changes least.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from before import HERE, environment

_WISH_S, _WISH_MB = 60, 500
_WORDS = [
    *("the", "of", "and", "to", "in", "that", "for", "it", "as", "was", "with", "by", "on", "not"),
    *(
        "but",
        "at",
        "are",
        "this",
        "have",
        "from",
        "or",
        "had",
        "they",
        "which",
        "one",
        "you",
        "were",
    ),
    *("there", "would", "their", "been", "has", "when", "who", "will", "more", "if", "out", "said"),
    *("what", "about", "than", "into", "them", "can", "only", "other", "time", "could", "these"),
]


class Cost(NamedTuple):
    """What one reading took."""

    seconds: float
    user_s: float  # of processor time, of all processes together
    system_s: float
    peak_mb: float


def main() -> None:
    """Write the log, read it in fresh processes, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--halves", action="store_true")
    parser.add_argument("--before", type=lambda text: Path(text).resolve(), metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    checkouts = [HERE] if arguments.before is None else [arguments.before, HERE]
    costs: dict[Path, list[Cost]] = {checkout: [] for checkout in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        logs = _write(Path(folder), arguments.lines, arguments.halves)
        size = sum(log.stat().st_size for log in logs)
        print(
            f"{arguments.lines:,} calls, {size / 1e6:,.0f} MB, {size / arguments.lines:,.0f} B each"
        )
        for number in range(arguments.rounds):
            for checkout in checkouts if number % 2 == 0 else reversed(checkouts):
                cost = _read(checkout, logs, Path(folder) / "out.jsonl", arguments.jobs)
                costs[checkout].append(cost)
                print(
                    f"{'here' if checkout == HERE else checkout}: {cost.seconds:.1f} s (wish: "
                    f"{_WISH_S} s), {cost.user_s:.1f} s of user and {cost.system_s:.1f} s of "
                    f"system time, load average {os.getloadavg()[0]:.1f}; {cost.peak_mb:.0f} MB "
                    f"at most (wish: {_WISH_MB} MB)",
                    flush=True,
                )
    if arguments.before is not None:
        before, here = (
            statistics.median(cost.user_s for cost in costs[checkout]) for checkout in checkouts
        )
        print(f"user time, here / before: {here / before:.3f}")


def _read(checkout: Path, logs: list[Path], out: Path, jobs: int) -> Cost:
    """What `understudy collect` of a checkout takes for the logs."""
    command = [sys.executable, "-m", "understudy", "collect", *map(str, logs)]
    command += ["--out", str(out), "--force", "--jobs", str(jobs)]
    earlier, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment(checkout))
    peak = 0
    while child.poll() is None:
        peak = max(peak, sum(map(_resident, _family(child.pid))))
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    assert child.returncode == 0, f"exit code {child.returncode}"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = used.ru_utime - earlier.ru_utime, used.ru_stime - earlier.ru_stime
    return Cost(seconds, user, system, peak / 1e6)


def _write(folder: Path, lines: int, halves: bool) -> list[Path]:
    """One file of whole calls, or one of requests and one of their answers."""
    logs = [folder / name for name in (("in.jsonl", "out.jsonl.log") if halves else ("log.jsonl",))]
    files = [log.open("w") for log in logs]
    for number, (request, response) in enumerate(_calls(lines)):
        name = f'{{"request_id":"r{number}",'
        if halves:
            files[0].write(f'{name}"request":{request}}}\n')
            files[1].write(f'{name}"response":{response}}}\n')
        else:
            broken = "" if number % 1000 else "!"
            files[0].write(f'{name}{broken}"request":{request},"response":{response}}}\n')
    for file in files:
        file.close()
    return logs


def _calls(lines: int) -> Iterator[tuple[str, str]]:
    dice = random.Random(0)
    texts = [" ".join(dice.choices(_WORDS, k=dice.randint(20, 60))) for _ in range(5000)]
    systems = [json.dumps(text) for text in texts[:20]]
    for number in range(lines):
        asked = number - 10 if number % 50 == 49 else number
        fixed = random.Random(asked)
        prompt = f"{asked}: {texts[int(5000 * fixed.random())]}"
        if asked % 10 == 0:
            prompt += f" Write to user{asked}@example.com or ring +49 30 {1_000_000 + asked}."
        answer = texts[int(5000 * fixed.random())] + ". " + texts[int(5000 * fixed.random())]
        yield (
            f'{{"model":"gpt-4o","temperature":0.2,"user":"u{asked % 200_000}","messages":['
            f'{{"role":"system","content":{systems[asked % 20]}}},'
            f'{{"role":"user","content":"{prompt}"}}]}}',
            f'{{"id":"chatcmpl-{number}","object":"chat.completion","created":1741569952,'
            '"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant",'
            f'"content":"{answer}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],'
            '"usage":{"prompt_tokens":100,"completion_tokens":80,"total_tokens":180}}',
        )


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    """Bytes of memory of a process; of what is shared, its part."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


if __name__ == "__main__":
    main()
