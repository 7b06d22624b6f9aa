#!/usr/bin/env bash
# The rule's pass rate against the number of synthetic rows: four tasks, two at a time.
#   experiments/curve/run.sh [DIR]     DIR gets curve.svg and curve.md; resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:-$here/experiments/curve}"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
export python

# One sequential job per task: its cells share stages, and would only wait for one another.
run_task() {
  set -euo pipefail
  local task="$1" rows
  for rows in 0 250 1000 4000; do
    "$python" -m understudy run experiment=curve "task=$task" "data_size=$rows" \
      "run.name=curve-$task-$rows" cluster.threads=1
  done
  "$python" -m understudy run experiment=curve "task=$task" trainer=none data_size=0 \
    "run.name=curve-$task-base" cluster.threads=1
}
export -f run_task

printf '%s\n' summarization classification coding closed_qa |
  xargs -P 2 -I '{}' bash -c 'run_task {}'

"$python" -m understudy.report.page --curve 'curve-*' --root "${UNDERSTUDY_ROOT:-runs}" \
  --out "$out/curve.svg"
