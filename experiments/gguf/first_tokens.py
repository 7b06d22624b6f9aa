"""Greedy tokens of GGUF files in llama.cpp's library, beside those of the model that was judged.

python experiments/gguf/first_tokens.py RUN_JSON PROGRAM GGUF…
PROGRAM is experiments/gguf/first_tokens.cpp, built against llama.cpp. Exit code 1 where a prompt is
read as other tokens, or fewer than 95 % of the answers begin with the same one.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from understudy.export import checks, parity
from understudy.export.parity import FOREIGN, Greedy
from understudy.models import load
from understudy.pipeline.chosen import choose

PROMPTS, TOKENS, BAR = 64, 16, 0.95


def main(run_json: str, program: str, *files: str) -> int:
    """Compare each file; 1 where one is not the judged model."""
    load.quiet()
    chosen = choose(Path(run_json))
    most = chosen.config.inference.max_new_tokens
    then = checks.judged(
        chosen.config, chosen.finetuned, chosen.split, PROMPTS, TOKENS, torch.float32
    )
    escaped = (r.text.replace("\\", "\\\\").replace("\n", "\\n") for r in then.readings)
    lines = "".join(f"{text}\n" for text in escaped)
    bad = False
    for file in files:
        done = subprocess.run(
            [program, file, str(most)], input=lines, capture_output=True, text=True, check=True
        )
        said = [json.loads(line) for line in done.stdout.splitlines()]
        pairs = list(zip(then.readings, said, strict=True))
        same = sum(list(reading.ids) == one["ids"] for reading, one in pairs)
        answers = []
        for reading, one in pairs:
            is_stopped = one["tokens"][-1] in then.stops.ids
            ids = one["tokens"][: -1 if is_stopped else None]
            text = then.tokenizer.decode(ids, skip_special_tokens=True)
            told = (len(one["ids"]), one["tokens"], one["likeliest"])
            answers.append(Greedy(reading.prompt_id, text, is_stopped, *told))
        found, cause = parity.server(then.greedy, answers, FOREIGN)
        print(f"{file}: {same} of {len(pairs)} prompts as the same tokens; {found}; {cause}")
        bad |= same < len(pairs) or found["equal_first_tokens"] < BAR
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
