"""Stands in for vLLM's server, which needs a GPU: /health and streamed /v1/completions.

Flags and fields are those of vLLM 0.33.0 that our engine uses; another one is an error. A schema
is kept to by llguidance, which is one of vLLM's own ways. Like vLLM
it wants its key, seeds by (seed, index), leaves the stop token among the tokens and out of the
text, and ends a generation whose reader has left. It computes one token after the other.
"""

import argparse
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FIELDS = {
    *("model", "prompt", "max_tokens", "n", "temperature", "top_p", "seed", "stop", "stream"),
    *("stop_token_ids", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
    *("return_token_ids", "return_tokens_as_token_ids", "structured_outputs", "prompt_logprobs"),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--model", "--served-model-name", "--host", "--dtype"):
        parser.add_argument(name, required=True)
    for name in ("--port", "--max-model-len", "--max-num-seqs"):
        parser.add_argument(name, required=True, type=int)
    parser.add_argument("--generation-config", choices=["vllm"], required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    fault = Path(arguments.model).parent / "fault.json"
    if fault.is_file():
        raise RuntimeError(json.loads(fault.read_text())["says"])
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=getattr(torch, arguments.dtype)
    )
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    busy = threading.Lock()

    def matcher(schema: Any) -> Any:
        import llguidance
        from llguidance.hf import from_tokenizer

        form = llguidance.LLMatcher.grammar_from_json_schema(schema)
        return llguidance.LLMatcher(from_tokenizer(tokenizer), form)

    def scored(ids: list[int], top: int) -> list[Any]:
        with busy, torch.inference_mode():
            rows = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        told: list[Any] = [None]
        for row, token in zip(rows, ids[1:], strict=False):
            known = [token, *row.topk(top).indices.tolist()]
            told.append({str(one): {"logprob": float(row[one]), "rank": 1} for one in known})
        return told

    def events(asked: dict[str, Any], index: int) -> Any:
        ids, made, told = list(asked["prompt"]), list[int](), ""
        assert len(ids) + asked["max_tokens"] <= arguments.max_model_len
        noise = torch.Generator().manual_seed(asked["seed"] % 2**31 + index)
        wanted = asked.get("structured_outputs")
        form = matcher(wanted["json"]) if wanted else None
        while True:
            with busy, torch.inference_mode():
                logits = model(torch.tensor([[*ids, *made]])).logits[0, -1].float()
            raw, logits = logits.log_softmax(-1), logits.clone()
            for token, bias in (asked["logit_bias"] or {}).items():
                logits[int(token)] += bias
            if form is not None:
                import llguidance.numpy as masks

                packed = masks.allocate_token_bitmask(1, len(logits))
                masks.fill_next_token_bitmask(form, packed)
                masks.apply_token_bitmask_inplace(logits.numpy()[None], packed)
            if asked["temperature"] == 0:
                made.append(int(logits.argmax()))
            else:
                shares = (logits / asked["temperature"]).softmax(-1)
                made.append(int(torch.multinomial(shares, 1, generator=noise)))
            is_stopped = made[-1] in asked["stop_token_ids"]
            if form is not None:
                form.consume_token(made[-1])
            text = tokenizer.decode(made[:-1] if is_stopped else made, skip_special_tokens=True)
            places = [text.find(stop) for stop in asked["stop"] if stop in text]
            text = text[: min(places)] if places else text
            finish = "stop" if is_stopped or places else None
            finish = finish or ("length" if len(made) == asked["max_tokens"] else None)
            choice = {"index": index, "text": text[len(told) :], "finish_reason": finish}
            choice |= {"token_ids": made[-1:], "logprobs": None}
            if asked["logprobs"] is not None:
                top = raw.topk(asked["logprobs"])
                likeliest = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
                likeliest[made[-1]] = float(raw[made[-1]])
                choice["logprobs"] = {
                    "tokens": [f"token_id:{made[-1]}"],
                    "token_logprobs": [float(raw[made[-1]])],
                    "top_logprobs": [{f"token_id:{t}": v for t, v in likeliest.items()}],
                }
            told = text
            yield choice
            if finish:
                return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
            assert not asked.keys() - FIELDS, f"unknown {asked.keys() - FIELDS}"
            if "prompt_logprobs" in asked:
                told = scored(asked["prompt"], asked["prompt_logprobs"])
                body = json.dumps({"choices": [{"prompt_logprobs": told}]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            assert asked["n"] == 1 or asked["temperature"] >= 1e-5  # _verify_greedy_sampling
            assert asked["model"] == arguments.served_model_name
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                for index in range(asked["n"]):
                    for choice in events(asked, index):
                        self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                print("ABORTED", flush=True)

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
