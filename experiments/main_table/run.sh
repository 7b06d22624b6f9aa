#!/usr/bin/env bash
# Table 1 with judges and services of today: two of the paper's three are withdrawn.
#   experiments/main_table/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
exec "$(dirname "${BASH_SOURCE[0]}")/../claim.sh" "$@" -- experiment=paper/main_table judge=today_panel \
  service@baseline.service=gpt_6_1_terra,claude_sonnet_5_5,gemini_3_8_flash
