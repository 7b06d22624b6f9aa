#!/usr/bin/env bash
# Llama in three sizes on the four tasks, with judges and services of today.
#   experiments/model_family/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
exec "$(dirname "${BASH_SOURCE[0]}")/../claim.sh" "$@" -- experiment=paper/model_family judge=today_panel \
  service@baseline.service=gpt_6_1_terra,claude_sonnet_5_5,gemini_3_8_flash
