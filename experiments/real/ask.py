"""Ask a gateway the first held-out questions as an application would, with OpenAI's own client.

python experiments/real/ask.py http://127.0.0.1:8179/v1 100
"""

import json
import sys
from pathlib import Path

import openai

ROWS = Path(__file__).with_name("banking77.jsonl")


def main(url: str, count: int) -> None:
    """Print how many answers are the right label."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    held = [row for row in rows if row["split"] == "holdout"][:count]
    right = 0
    with openai.OpenAI(base_url=url, api_key="none") as client:
        for row in held:
            asked = [("system", row["system"]), ("user", row["prompt"])]
            messages = [{"role": role, "content": text} for role, text in asked]
            made = client.chat.completions.create(
                model="real-few-shot",
                messages=messages,  # type: ignore[arg-type]
                max_tokens=24,
                temperature=0,
            )
            right += (made.choices[0].message.content or "").strip() == row["response"]
    print(f"{right} of {len(held)} answers of the service are the right label")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
