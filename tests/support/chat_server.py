"""A small honest chat server over a real model, for what asks one: right, or wrong in one way.

As a program it plays llama.cpp's server: `chat_server.py -m FILE --port N`, the model being in the
directory that the FILE names.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_LOCK = threading.Lock()  # one answer at a time


@dataclass
class Voice:
    """Who answers, and how."""

    model: Any
    tokenizer: Any
    stop_ids: frozenset[int]
    first: tuple[int, ...] = ()  # tokens that it puts before every prompt
    tells_probabilities: bool = True
    tells_ids: bool = False  # as vLLM does
    status: int = 200

    def read(self, messages: list[dict[str, str]]) -> list[int]:
        ids = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        return [*self.first, *ids]

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        assert body["temperature"] == 0
        ids = self.read(body["messages"])
        with _LOCK, torch.inference_mode():
            made, rows, stopped = [], [], False
            while len(made) < body["max_tokens"] and not stopped:
                logits = self.model(input_ids=torch.tensor([[*ids, *made]])).logits[0, -1]
                rows.append(logits.float().log_softmax(-1))
                made.append(int(logits.argmax()))
                stopped = made[-1] in self.stop_ids
        said = made[:-1] if stopped else made
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        pairs = zip(made, rows, strict=True)
        told = [self._token(token, row, body["top_logprobs"]) for token, row in pairs]
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if stopped else "length",
            "logprobs": {"content": told} if self.tells_probabilities else None,
        }
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(made)}
        own = {"prompt_token_ids": ids} if self.tells_ids else {}
        return {"choices": [choice], "usage": usage, **own}

    def _token(self, token: int, row: Any, count: int) -> dict[str, Any]:
        top = [found.tolist() for found in row.topk(count)]
        return {
            "id": token,
            "logprob": float(row[token]),
            "top_logprobs": [{"id": i, "logprob": v} for v, i in zip(*top, strict=True)],
        }


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer({"data": [{"id": "exported"}]})

    def do_POST(self) -> None:
        voice: Voice = self.server.voice  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/apply-template":
            self._answer({"prompt": json.dumps(body["messages"])})
        elif self.path == "/tokenize":
            self._answer({"tokens": voice.read(json.loads(body["content"]))})
        elif voice.status != 200:
            self._answer({"error": {"message": "no"}}, voice.status)
        else:
            self._answer(voice.complete(body))

    def _answer(self, found: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(voice: Voice, port: int = 0) -> Iterator[str]:
    """Serve in a thread; the address ends in /v1."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.voice = voice  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def load(path: Path) -> Voice:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    return Voice(model, tokenizer, frozenset(model.generation_config.eos_token_id))


if __name__ == "__main__":
    words = sys.argv[1:]
    place = Path(Path(words[words.index("-m") + 1]).read_text())
    with serving(load(place), int(words[words.index("--port") + 1])):
        threading.Event().wait()
