"""Run other people's clients against the gateway: `make clients`, or `run.py core more node`.

Each set has an environment of its own under runs/clients, from a lock beside this file. Its calls
go to a gateway before the rehearsal server (as gpt_4o), then to one in mode local before
`understudy serve` of the shipped tiny model. Exit 1 where one neither works nor is refused in its
maker's error shape, or a call before the rehearsal is refused at all. With --out the rows are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy import locations

HERE = Path(__file__).parent
SETS = ("core", "more", "node")
MODEL = "gpt-4o"
UNDERSTUDY = (sys.executable, "-m", "understudy")


@contextmanager
def served(*words: str) -> Iterator[str]:
    """A verb of ours as a process, and the URL that it prints first."""
    with subprocess.Popen([*UNDERSTUDY, *words], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert "http://" in line, f"understudy {' '.join(words)} did not start"
            yield "http://" + line.partition("http://")[2].partition("/v1")[0].strip()
        finally:
            child.terminate()


def command(name: str, where: Path) -> list[str]:
    """The command that runs a set's script, whose environment is made where it is missing."""
    place = where / name
    if name == "node":
        place.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            (place / file).write_bytes((HERE / "node" / file).read_bytes())
        (place / "node.mjs").write_bytes((HERE / "node.mjs").read_bytes())
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=place, check=True)
        return ["node", str(place / "node.mjs")]
    lock = HERE / f"{name}.txt"
    if not (place / "lock").is_file() or (place / "lock").read_bytes() != lock.read_bytes():
        venv.create(place, with_pip=True, clear=True)
        pip = [str(place / "bin" / "pip"), "install", "-q", "--no-deps", "-r", str(lock)]
        subprocess.run(pip, check=True)
        (place / "lock").write_bytes(lock.read_bytes())
    return [str(place / "bin" / "python"), str(HERE / f"{name}.py")]


def asked(client: list[str], url: str, side: str) -> list[dict[str, Any]]:
    """What became of a set's calls."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")  # no key, no proxy, no base URL of somebody's
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch one
    ended = subprocess.run([*client, url, MODEL], env=env, stdout=subprocess.PIPE, text=True)
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode:
        rows.append({"client": client[-1], "call": "all", "result": "failed", "said": "it ended"})
    return [{"before": side} | row for row in rows]


def main() -> int:
    """Run the sets, print a line for each call, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["core"], choices=SETS)
    parser.add_argument("--where", type=Path, default=Path("runs/clients"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    clients = [command(name, given.where.absolute()) for name in given.sets]
    rows: list[dict[str, Any]] = []
    tiny = str(locations.PACKAGE / "models" / "tiny")
    with tempfile.TemporaryDirectory() as root:
        ours = ("gateway", "--root", root, "gateway.service=gpt_4o", "gateway.port=0")
        with served("rehearse", "--", *ours) as url:
            rows += [row for client in clients for row in asked(client, url, "rehearsal")]
        with (
            served("serve", tiny, "--port", "0") as model,
            served(*ours, "gateway.mode=local", f"gateway.local={model}/v1") as url,
        ):
            rows += [row for client in clients for row in asked(client, url, "local")]
    wrong = 0
    for row in rows:
        is_wrong = row["result"] == "failed" or (row["before"], row["result"]) == (
            ("rehearsal", "refused")
        )
        wrong += is_wrong
        said = row.get("said", "") if row["result"] != "works" else ""
        name = f"{row['client']} {row.get('version', '')}"
        print(f"{row['before']:10} {name:28} {row['call']:26} {row['result']:8} {said}")
    print(f"{len(rows)} calls, {wrong} wrong")
    if given.out is not None:
        given.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
