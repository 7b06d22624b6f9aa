#!/usr/bin/env bash
# A real model on real rows: the base model, 150 and 600 training rows. Resumes if interrupted.
#   experiments/real/run.sh [KEY=VALUE ...]      more overrides, for every run
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$here"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
root="${UNDERSTUDY_ROOT:-runs}"
mkdir -p "$root"

few="$root/banking77-150.jsonl"
grep -v '"id": "more-' experiments/real/banking77.jsonl > "$few.part"
cmp -s "$few.part" "$few" || cp "$few.part" "$few"
rm "$few.part"

"$python" -m understudy run experiment=real trainer=none run.name=real-base "$@"
"$python" -m understudy run experiment=real "coverage.path=$few" run.name=real-150 "$@"
"$python" -m understudy run experiment=real run.name=real-600 "$@"
"$python" -m understudy report 'real-600'
