"""`understudy collect` on 1,000,000 logged calls: `python tests/benchmarks/bench_collect.py`.

Printed are seconds, processor time and the memory of all processes together at its peak; the wish
is at most 60 s and 500 MB on two cores. A line is a request and its response, of about 1.1 KB:
one in ten holds an e-mail address and a phone number, one in 50 repeats an earlier call, one in
1,000 is broken. `--lines 100000` is a quick look; `--halves` puts requests and answers into files
of their own, as batches do.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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


def main() -> None:
    """Write the log, read it in a fresh process, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--halves", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        logs = _write(Path(folder), arguments.lines, arguments.halves)
        size = sum(log.stat().st_size for log in logs)
        print(
            f"{arguments.lines:,} calls, {size / 1e6:,.0f} MB, {size / arguments.lines:,.0f} B each"
        )
        command = [sys.executable, "-m", "understudy", "collect", *map(str, logs)]
        command += ["--out", f"{folder}/out.jsonl", "--jobs", str(arguments.jobs)]
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0
        while child.poll() is None:
            peak = max(peak, sum(map(_resident, _family(child.pid))))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
        assert child.returncode == 0, f"exit code {child.returncode}"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = used.ru_utime + used.ru_stime
    print(
        f"{seconds:.1f} s (wish: {_WISH_S} s), {busy:.1f} s of processor time, load average "
        f"{os.getloadavg()[0]:.1f}; {peak / 1e6:.0f} MB at most (wish: {_WISH_MB} MB)"
    )


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
