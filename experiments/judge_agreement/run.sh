#!/usr/bin/env bash
# Figure 3 with judges of today: the same answers under three of them.
#   experiments/judge_agreement/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
exec "$(dirname "${BASH_SOURCE[0]}")/../claim.sh" "$@" -- experiment=paper/judge_agreement judge=today_panel
