#!/usr/bin/env bash
# What a router saves at the accuracy of the best single LLM: five published tables, beside the papers.
#   experiments/routing/run.sh DATA [DIR [PUBLISHED]]
# DATA holds the tables; DIR gets a table and a figure of each, and table_routers of all.
# PUBLISHED is the number of seeds of OptLLM's own predictor, which takes minutes a seed (default 3).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
usage="usage: experiments/routing/run.sh DATA [DIR [PUBLISHED]]"
data="$(cd "${1:?$usage}" && pwd)"
out="${2:-$here/experiments/routing}"
mkdir -p "$out"
out="$(cd "$out" && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3

export OMP_NUM_THREADS=1
cd "$here"
for name in overruling routerbench routellm routerdc logpai; do
  more=()
  case "$name" in overruling | logpai) more=("routing.seeds.published=${3:-3}") ;; esac
  "$python" -m understudy route "experiment=routing/$name" "routing.data=$data" "${more[@]}" --out "$out"
done
"$python" -m analysis.table_routers "$out"
