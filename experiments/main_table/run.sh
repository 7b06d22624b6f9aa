#!/usr/bin/env bash
# Table 1 with judges and services of today: two of the paper's three are withdrawn.
#   experiments/main_table/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
verb=run
if [[ "${1:-}" == plan || "${1:-}" == run ]]; then
  verb="$1"
  shift
fi

exec "$python" -m understudy "$verb" experiment=paper/main_table judge=today_panel \
  service@baseline.service=gpt_6_1_terra,claude_sonnet_5_5,gemini_3_8_flash "$@"
