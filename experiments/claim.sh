#!/usr/bin/env bash
# What every claim's run.sh does:  claim.sh [plan|run] [KEY=VALUE…] -- GIVEN…
# The overrides of the claim stand first, so that those of the user win.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
verb=run typed=()
while [[ "$1" != -- ]]; do
  typed+=("$1")
  shift
done
shift
if [[ "${typed[0]:-}" == plan || "${typed[0]:-}" == run ]]; then
  verb="${typed[0]}"
  typed=("${typed[@]:1}")
fi

exec "$python" -m understudy "$verb" "$@" "${typed[@]}"
