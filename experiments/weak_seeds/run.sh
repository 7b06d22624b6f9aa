#!/usr/bin/env bash
# Seeds aimed at what is weak against uniform ones, at equal calls, in ten seeds.
# experiments/weak_seeds/run.sh [SEED…]; results: python experiments/weak_seeds/collect.py
set -euo pipefail
cd "$(dirname "$0")"
root="${UNDERSTUDY_ROOT:-$PWD/runs}"
python="${PYTHON:-python}"
mkdir -p "$root"

[ $# -gt 0 ] || set -- 0 1 2 3 4 5 6 7 8 9

for seed in "$@"; do
  "$python" planted.py "$seed" "$root/planted-$seed.jsonl"
  for seeds in uniform weak; do
    "$python" -m understudy run coverage=file "coverage.path=$root/planted-$seed.jsonl" \
      task=coding baseline=none data_size=125 "seed=$seed" "synthesis.seed=$seed" \
      "synthesis.seeds=$seeds" trainer.max_steps=120 trainer.evaluations=4 \
      inference.k=1 inference.temperature=0 inference.max_new_tokens=64 evaluation.m=1 \
      "run.name=$seeds-$seed" "paths.root=$root"
  done
done
"$python" collect.py "$root"
