#!/usr/bin/env bash
# Figure 2 with judges and teachers of today: two of the paper's three are withdrawn.
#   experiments/data_scaling/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
verb=run
if [[ "${1:-}" == plan || "${1:-}" == run ]]; then
  verb="$1"
  shift
fi

exec "$python" -m understudy "$verb" experiment=paper/data_scaling judge=today_panel \
  service@synthesis.service=gpt_4o,claude_sonnet_5_5,gemini_3_8_flash "$@"
