#!/usr/bin/env bash
# Pre-train the tiny base model that the package ships, from nothing, on one core.
#   experiments/tiny_base/run.sh [DIR]     DIR defaults to the shipped place; resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="${1:-$here/src/understudy/models/tiny}"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3

# Two OpenMP threads on two shared cores are several times slower than one.
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
exec "$python" "$here/experiments/tiny_base/pretrain.py" --out "$out" --tokens 5000000 --seed 0
