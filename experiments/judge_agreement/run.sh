#!/usr/bin/env bash
# Figure 3 with judges of today: the same answers under three of them.
#   experiments/judge_agreement/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
verb=run
if [[ "${1:-}" == plan || "${1:-}" == run ]]; then
  verb="$1"
  shift
fi

exec "$python" -m understudy "$verb" experiment=paper/judge_agreement judge=today_panel "$@"
