#!/usr/bin/env bash
# Seeds aimed at what is weak against uniform ones, at equal calls, in ten seeds.
#   experiments/weak_seeds/run.sh [SEED…]     resumes if interrupted; rewrites result.json
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
root="${UNDERSTUDY_ROOT:-$here/runs/weak_seeds}"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
mkdir -p "$root"
[[ $# -gt 0 ]] || set -- 0 1 2 3 4 5 6 7 8 9

arm() { # SEED KEY=VALUE…
  "$python" -m understudy run coverage=file "coverage.path=$root/planted-$1.jsonl" \
    task=classification baseline=none "seed=$1" trainer.max_steps=60 trainer.evaluations=4 \
    inference.k=1 inference.temperature=0 inference.max_new_tokens=64 evaluation.m=1 \
    "paths.root=$root" "${@:2}"
}

for seed in "$@"; do
  "$python" "$here/experiments/weak_seeds/data.py" plant "$seed" "$root/planted-$seed.jsonl"
  for seeds in uniform weak; do
    arm "$seed" data_size=125 "synthesis.seed=$seed" "synthesis.seeds=$seeds" \
      "run.name=$seeds-$seed"
  done
  # A refused pair may cost a call more: what it gave is left out of the training.
  while read -r seeds rows file; do
    arm "$seed" synthesis=file "synthesis.path=$file" "data_size=$rows" \
      "run.name=$seeds-$seed-cut" </dev/null
  done < <("$python" "$here/experiments/weak_seeds/data.py" cut "$root" "$seed")
done
"$python" "$here/experiments/weak_seeds/data.py" collect "$root" \
  "$here/experiments/weak_seeds/result.json"
