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

for seed in "$@"; do
  "$python" "$here/tests/benchmarks/weak_seeds.py" plant "$seed" "$root/planted-$seed.jsonl"
  for seeds in uniform weak; do
    "$python" -m understudy run coverage=file "coverage.path=$root/planted-$seed.jsonl" \
      task=classification baseline=none data_size=125 "seed=$seed" "synthesis.seed=$seed" \
      "synthesis.seeds=$seeds" synthesis.pairs_per_call=11 trainer.max_steps=60 trainer.evaluations=4 \
      inference.k=1 inference.temperature=0 inference.max_new_tokens=64 evaluation.m=1 \
      "run.name=$seeds-$seed" "paths.root=$root"
  done
done
"$python" "$here/tests/benchmarks/weak_seeds.py" collect "$root" \
  "$here/experiments/weak_seeds/result.json"
