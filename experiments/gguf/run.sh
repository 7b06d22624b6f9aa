#!/usr/bin/env bash
# The tiny model as GGUF, answering through llama.cpp as it did where it was judged.
#   experiments/gguf/run.sh LLAMA_CPP PYTHON [RUN]
# LLAMA_CPP is a checkout with build/bin/llama-server (README.md says how), PYTHON has its
# converter's requirements; RUN is a finished run, by default the demo, which is run first.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
llama_cpp="$1" converter="$2" run="${3:-}"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3

if [[ -z "$run" ]]; then
  "$python" -m understudy run experiment=demo
  run=demo
fi
[[ -x "$llama_cpp/build/bin/llama-server" ]] || {
  echo "$llama_cpp/build/bin/llama-server is not built: see $here/experiments/gguf/README.md" >&2
  exit 2
}
for dtype in float32 float16; do
  "$python" -m understudy export "$run" --force export.what=gguf "export.dtype=$dtype" \
    export.parity.prompts=64 "export.llama_cpp=$llama_cpp" "export.python=$converter"
  root="${UNDERSTUDY_ROOT:-runs}"
  cat "$root"/{,rehearsal/}"run/$run/export-gguf/parity.json" 2>/dev/null || true
done
