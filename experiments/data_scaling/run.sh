#!/usr/bin/env bash
# Figure 2 with judges and teachers of today: two of the paper's three are withdrawn.
#   experiments/data_scaling/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
exec "$(dirname "${BASH_SOURCE[0]}")/../claim.sh" "$@" -- experiment=paper/data_scaling judge=today_panel \
  service@synthesis.service=gpt_4o,claude_sonnet_5_5,gemini_3_8_flash
