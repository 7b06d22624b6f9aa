#!/usr/bin/env bash
# A real model on real rows, all the way: base, few-shot, 150 and 600 training rows, decision, export,
# server, gateway. The service that is left is the same model untrained, asked with examples: a weak one,
# whose server is played by nobody. Resumes if interrupted; a second call runs no stage.
#   experiments/real/run.sh [KEY=VALUE ...]      more overrides, for every run
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
cd "$here"
python="$here/.venv/bin/python"
[[ -x "$python" ]] || python=python3
root="${UNDERSTUDY_ROOT:-runs}"
port="${REAL_PORT:-8177}" # the service's; the model's and the gateway's are the next two
mkdir -p "$root"

started=()
trap 'kill "${started[@]}" 2>/dev/null || true' EXIT

ours() { "$python" -m understudy "$@"; }

# Start a server in the background, and wait until it answers.
start() { # PORT WORDS...
  local at="$1" patience=300
  shift
  ours "$@" >"$root/real-$at.log" 2>&1 &
  started+=("$!")
  until "$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$at/health')" 2>/dev/null; do
    if ! kill -0 "$!" 2>/dev/null || ((patience-- == 0)); then
      echo "no server on port $at: see $root/real-$at.log" >&2
      exit 3
    fi
    sleep 1
  done
}

few="$root/banking77-150.jsonl"
grep -v '"id": "more-' experiments/real/banking77.jsonl > "$few.part"
cmp -s "$few.part" "$few" || cp "$few.part" "$few"
rm "$few.part"

shots=(trainer=none inference.shots=4 run.name=real-few-shot)
service=(baseline=gpt_4o service@baseline.service=openai_compatible
  baseline.service.name=few_shot baseline.service.family=huggingface baseline.service.model=real-few-shot
  "baseline.service.base_url=http://127.0.0.1:$port/v1" baseline.service.max_output_tokens=24)

ours run experiment=real trainer=none run.name=real-base "$@"
ours run experiment=real "${shots[@]}" "$@"
ours run experiment=real "coverage.path=$few" run.name=real-150 "$@"
start "$port" serve real-few-shot --port "$port"
ours run experiment=real run.name=real-600 gate=noninferiority "${service[@]}" "$@"
ours decide real-600 || [[ $? = 1 ]] # 1 = no; the model is exported all the same, and its card says so

[[ -e "$root/real-model/parity.json" ]] || ours export real-600 --to "$root/real-model"
if [[ ! -e "$root/real-shadowed" ]]; then
  start "$((port + 1))" serve "$root/real-model" --port "$((port + 1))"
  start "$((port + 2))" gateway "gateway.port=$((port + 2))" gateway.service=openai_compatible \
    gateway.service.model=real-few-shot "gateway.service.base_url=http://127.0.0.1:$port/v1" \
    gateway.mode=shadow "gateway.local=http://127.0.0.1:$((port + 1))/v1"
  "$python" experiments/real/ask.py "http://127.0.0.1:$((port + 2))/v1" 100
  ours gateway status
  touch "$root/real-shadowed"
fi
ours report real-600
