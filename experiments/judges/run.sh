#!/usr/bin/env bash
# Six questions about real judges: results.json and the figures beside this file.
#   experiments/judges/run.sh DATA [--only repeats position …]
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-python}" experiments/judges/measure.py "$@"
