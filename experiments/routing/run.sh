#!/usr/bin/env bash
# What a router saves at the accuracy of the best single LLM: five published tables, beside the papers.
#   experiments/routing/run.sh DATA [DIR]     DATA holds the tables; DIR gets a table and a figure each
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
data="${1:?usage: experiments/routing/run.sh DATA [DIR]}"
out="${2:-$here/experiments/routing}"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3

export OMP_NUM_THREADS=1
for name in overruling routerbench routellm routerdc logpai; do
  "$python" -m understudy route "experiment=routing/$name" "routing.data=$data" --out "$out"
done
