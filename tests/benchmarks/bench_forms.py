"""Answers that keep to a schema: `python tests/benchmarks/bench_forms.py`.

The shipped tiny model draws 50 answers (temperature 1, at most 512 tokens, 25 at a time) for each
of 20 schemas. Each answer that stops must be valid by jsonschema. CPU time per token is compared
with free answers of the same lengths in the same batches, one after the other in the same run.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import jsonschema
import torch

from understudy import locations
from understudy.inference import DecodeRequest
from understudy.inference.caches import Slots
from understudy.inference.decode import Batch, Detokenizer, Growing, noise_of, text_of
from understudy.inference.forms import Forms
from understudy.serve.model import Served, of_directory

TOKENS = 512


def text(most: int, **more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, **more}


def listed(item: dict[str, Any], most: int, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": item, "maxItems": most, **more}


def thing(*optional: str, **fields: dict[str, Any]) -> dict[str, Any]:
    required = [name for name in fields if name not in optional]
    return {"type": "object", "properties": fields, "required": required}


COLOUR = {"enum": ["rot", "größe", "東京", "👩‍🚀", 'quo"te', "back\\slash", "line\nbreak"]}
PERSON = thing("age", name=text(20), age={"type": "integer", "minimum": 0, "maximum": 150})
SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": thing(name=text(20), is_new={"type": "boolean"}),
    "enum": thing(colour=COLOUR, size={"enum": [1, 2.5, None, "L"]}),
    "nested": thing(a=thing(b=thing(c=thing(d=text(8))))),
    "list": listed(text(10), 5),
    "list of objects": listed(PERSON, 4, minItems=1),
    "optional": thing("a", "b", "c", a=text(9), b={"type": "null"}, c=COLOUR),
    "integers": listed({"type": "integer", "minimum": -99, "maximum": 9999}, 6),
    "numbers": thing(x={"type": "number", "minimum": 0, "maximum": 1}, y={"type": "number"}),
    "any of": thing(value={"anyOf": [text(10), {"type": "integer"}, {"type": "null"}]}),
    "one of": {"oneOf": [thing(kind={"const": "a"}, a=text(8)), thing(kind={"const": "b"})]},
    "definitions": {**thing(boss={"$ref": "#/$defs/person"}), "$defs": {"person": PERSON}},
    "tree": {
        **thing(root={"$ref": "#/$defs/node"}),
        "$defs": {"node": thing(name=text(6), nodes=listed({"$ref": "#/$defs/node"}, 1))},
    },
    "pattern": thing(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$"}),
    "formats": thing(day={"type": "string", "format": "date"}, id=text(40, format="uuid")),
    "unicode keys": thing(**{"straße": text(6), "名前": COLOUR, "a b": text(5, minLength=2)}),
    "tuple": {
        **{"type": "array", "prefixItems": [text(5), {"type": "boolean"}], "items": False},
        **{"minItems": 2, "maxItems": 2},
    },
    "map": {
        **{"type": "object", "additionalProperties": False},
        **{"maxProperties": 3, "patternProperties": {"^[a-c]$": {"type": "boolean"}}},
    },
    "grid": listed(listed({"enum": [0, 1]}, 4, minItems=2), 4),
    "long text": thing(words=text(120), more=text(60, minLength=10)),
    "judge": thing(
        similarity=thing(reason=text(80), score={"type": "number", "minimum": 0, "maximum": 100}),
        precision=thing(reason=text(80), score={"type": "number", "minimum": 0, "maximum": 100}),
    ),
}


def decode(
    model: Any, served: Served, schema: str | None, seeds: Sequence[int], lengths: Sequence[int]
) -> tuple[list[Growing], float]:
    """Answers that were decoded together, and the CPU seconds that it took."""
    forms = FORMS.setdefault(id(served), Forms(served.tokenizer, served.stop_ids))
    turn = [{"role": "user", "content": "Tell me about it in JSON."}]
    ids = served.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    answers = []
    for seed, most in zip(seeds, lengths, strict=True):
        asked = DecodeRequest(ids=tuple(ids), max_tokens=most, seed=seed, schema=schema)
        words = Detokenizer(served.tokenizer, (), is_streamed=False)
        stops = served.stop_ids if schema else frozenset()
        one = Growing(asked, words, stops, noise_of(asked, asked.key, 0))
        one.constraint = forms.constraint(schema) if schema else None
        answers.append(one)
    batch: Batch[Growing] = Batch(model, Slots)
    began = time.process_time()
    with torch.inference_mode():
        batch.join(answers)
        while batch.rows:
            batch.step()
    return answers, time.process_time() - began


FORMS: dict[int, Forms] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=50, help="a schema")
    parser.add_argument("--batch", type=int, default=25)
    count, width = (arguments := parser.parse_args()).answers, arguments.batch
    served = of_directory(locations.model("package:tiny"))
    model = served.load(torch.float32).eval()
    decode(model, served, json.dumps(SCHEMAS["flat"]), [0], [8])
    stopped = cut = wrong = tokens = 0
    held_s = free_s = 0.0
    for name, schema in SCHEMAS.items():
        ended = 0
        for start in range(0, count, width):
            seeds = range(start, min(start + width, count))
            held, seconds = decode(model, served, json.dumps(schema), seeds, [TOKENS] * len(seeds))
            lengths = [len(one.tokens) for one in held]
            _, plain = decode(model, served, None, seeds, lengths)
            held_s, free_s, tokens = held_s + seconds, free_s + plain, tokens + sum(lengths)
            for one in held:
                if one.finish != "stop":
                    assert one.finish == "length", one.finish
                    cut += 1
                    continue
                stopped, ended = stopped + 1, ended + 1
                try:
                    jsonschema.validate(json.loads(text_of(served.tokenizer, one.tokens)), schema)
                except (ValueError, jsonschema.ValidationError) as error:
                    wrong += 1
                    print(f"{name}: {error}")
        print(f"{name}: {ended} of {count} stopped, {held_s / free_s:.2f} times", flush=True)
    print(f"{stopped} stopped, {wrong} of them not valid, {cut} cut at {TOKENS} tokens")
    print(
        f"{tokens} tokens: {1e6 * held_s / tokens:.0f} µs each, free {1e6 * free_s / tokens:.0f}: "
        f"{held_s / free_s:.2f} times"
    )


if __name__ == "__main__":
    main()
