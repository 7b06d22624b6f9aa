#!/usr/bin/env bash
# Ours: four models x four tasks x nine sizes x three judges on the generated tasks.
#   experiments/full_grid/run.sh [plan|run] [KEY=VALUE…]     resumes if interrupted
exec "$(dirname "${BASH_SOURCE[0]}")/../claim.sh" "$@" -- sweep=full_grid
