"""Commands named like Slurm's that take jobs and remember them; nothing runs."""

from pathlib import Path

_LINES = """#!/usr/bin/env bash
state=$(dirname "$0")/state
"""
_FAKES = {
    "sbatch": """
number=$(($(cat "$state/last") + 1)) && echo "$number" >"$state/last"
indices='N/A' about="PENDING|Dependency|$(id -un)|"
for word; do
  case $word in
    --array=*) indices=${word#--array=} indices=${indices%%%*} ;;
    --comment=*) about+=${word#--comment=} ;;
  esac
done
IFS=, && for part in $indices; do
  case $part in
    N/A) echo "$number|N/A|$about" ;;
    *) for ((i = ${part%-*}; i <= ${part#*-}; i++)); do echo "$number|$i|$about"; done ;;
  esac
done >>"$state/queue"
echo "$number"
""",
    "squeue": 'cat "$state/queue"\n',
    "scancel": ': >"$state/queue"\n',
    "scontrol": 'echo "MaxArraySize = 1001"\n',
}


def fakes(folder: Path) -> Path:
    """Write commands that take jobs and remember them; return their directory."""
    (folder / "state").mkdir(parents=True)
    (folder / "state/last").write_text("0\n")
    (folder / "state/queue").write_text("")
    for name, body in _FAKES.items():
        (folder / name).write_text(_LINES + body)
        (folder / name).chmod(0o755)
    return folder


def end(folder: Path, *jobs: str) -> None:
    """Let jobs leave the queue, `12_3` by `12_3`."""
    queue = folder / "state/queue"
    lines = queue.read_text().splitlines(keepends=True)
    queue.write_text("".join(line for line in lines if _job(line) not in jobs))


def queued(folder: Path) -> list[str]:
    """The jobs in the queue, the first submitted first."""
    return [_job(line) for line in (folder / "state/queue").read_text().splitlines()]


def _job(line: str) -> str:
    return "_".join(line.split("|")[:2])
