#!/usr/bin/env bash
# Ours: four models x four tasks x nine sizes x three judges on the generated tasks.
#   experiments/full_grid/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
verb=run
if [[ "${1:-}" == plan || "${1:-}" == run ]]; then
  verb="$1"
  shift
fi

exec "$python" -m understudy "$verb" sweep=full_grid "$@"
