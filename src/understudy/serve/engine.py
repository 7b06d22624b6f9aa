"""Answer with transformers in this process: answers join and leave the batch between two steps.

A thread of its own computes; pieces come to the event loop once a step. An answer depends neither
on what else is decoded nor on when it joined: its only randomness is the stream of uniform numbers
of (seed, prompt, index), as in `generation.py`.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from understudy.config.serve import Serve
from understudy.inference import generate
from understudy.models import load
from understudy.pipeline.asked import Asked, Logprob, Piece
from understudy.serve.detokenizer import Detokenizer
from understudy.serve.sampling import Turn, sample
from understudy.serve.served import Served
from understudy.serve.slots import Slots

_log = logging.getLogger(__name__)
Put = Callable[[Piece], None]


@dataclass(eq=False)
class _Answer:
    """One answer under way."""

    asked: Asked
    index: int
    put: Put
    detokenizer: Detokenizer
    noise: Any  # uniform numbers, one per token
    tokens: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    text: str = ""  # that is not in pieces yet
    told: int = 0  # tokens that are in pieces
    finish: str | None = None
    is_cancelled: bool = False

    @property
    def ids(self) -> tuple[int, ...]:
        return self.asked.ids

    @property
    def length(self) -> int:
        """Columns of the cache; the last token is not read yet."""
        return len(self.asked.ids) + len(self.tokens) - 1

    @property
    def is_over(self) -> bool:
        return self.is_cancelled or self.finish is not None

    def add(self, token: int, logprob: Logprob | None, stop_ids: frozenset[int]) -> None:
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        if token in stop_ids:
            self.finish = "stop"
            return
        self.text += self.detokenizer.add(token)
        if self.detokenizer.is_stopped:
            self.finish = "stop"
        elif len(self.tokens) == self.asked.max_tokens:
            self.finish = "length"

    def piece(self) -> Piece | None:
        """What is to be told now, if anything."""
        if self.finish is None and not (self.asked.is_streamed and self.text):
            return None
        if self.finish is not None:
            self.text += self.detokenizer.end()
        new = slice(self.told, None)
        piece = Piece(self.index, self.text, self.tokens[new], self.logprobs[new], self.finish)
        self.told, self.text = len(self.tokens), ""
        return piece


class TransformersEngine:
    """An `asked.Engine`."""

    def __init__(self, served: Served, settings: Serve, kind: Any = None) -> None:
        self.about = f"transformers {version('transformers')}"
        if settings.threads is not None:
            load.use_threads(settings.threads)
        self._model = served.load(kind or load.dtype()).eval()
        self._tokenizer, self._settings = served.tokenizer, settings
        self._stop_ids, self._stop_texts = served.stop_ids, served.stop_texts
        self._slots = Slots()
        self._rows: list[_Answer | None] = []
        self._waiting: deque[_Answer] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def is_alive(self) -> bool:
        return self._thread.is_alive() and not self._is_closing

    def start(self, asked: Asked, put: Put) -> Callable[[], None]:
        stops = (*asked.stop, *self._stop_texts)
        answers = [
            _Answer(
                *(asked, index, put, Detokenizer(self._tokenizer, stops, asked.is_streamed)),
                generate.uniforms(asked.seed, asked.key, index, asked.max_tokens)
                if asked.temperature > 0
                else None,
            )
            for index in range(asked.n)
        ]
        with self._changed:
            self._waiting.extend(answers)
            self._changed.notify()

        def cancel() -> None:
            with self._changed:
                for answer in answers:
                    answer.is_cancelled = True
                self._waiting = deque(one for one in self._waiting if not one.is_cancelled)
                self._changed.notify()

        return cancel

    # --- the engine's thread ------------------------------------------------------------------

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._is_closing or self._waiting or any(self._rows)
                    )
                    if self._is_closing:
                        return
                    joining = self._take()
                try:
                    self._step(joining)
                except Exception as error:  # of the model or the device; the server goes on
                    _log.exception("a step failed")
                    self._fail(joining, error)

    def _take(self) -> list[_Answer]:
        """The answers that join now: as many as there is room for, but not too long to read."""
        room = self._settings.batch_size - sum(row is not None for row in self._rows)
        taken: list[_Answer] = []
        longest = 0
        while self._waiting and len(taken) < room:
            longest = max(longest, len(self._waiting[0].ids))
            prompts = {one.ids for one in taken} | {self._waiting[0].ids}
            if taken and longest * len(prompts) > self._settings.prefill_tokens:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _step(self, joining: Sequence[_Answer]) -> None:
        """Read the prompts that join, then one token of everybody."""
        if joining:
            logits, cache, mask = generate.read_prompts(self._model, joining)
            self._write(logits, joining)
            self._admit(joining, cache, mask)
        self._leave()
        if not any(self._rows):
            return
        last = [row.tokens[-1] if row else 0 for row in self._rows]
        longest = max(row.length for row in self._rows if row)
        logits = self._slots.step(self._model, last, longest)
        living = [place for place, row in enumerate(self._rows) if row]
        if len(living) < len(self._rows):
            logits = logits[living]
        self._write(logits, [row for row in self._rows if row])
        self._leave()

    def _write(self, logits: Any, answers: Sequence[_Answer]) -> None:
        """Give each answer its next token, and the event loop its pieces."""
        turns = [
            Turn(one.asked, one.tokens, one.noise[len(one.tokens)] if one.noise is not None else 0)
            for one in answers
        ]
        for one, token, logprob in zip(answers, *sample(logits, turns), strict=True):
            one.add(token, logprob, self._stop_ids)
        pieces = [(one.put, one.piece()) for one in answers if not one.is_cancelled]
        self._tell([(put, piece) for put, piece in pieces if piece is not None])

    def _admit(self, answers: Sequence[_Answer], cache: Any, mask: Any) -> None:
        """Put answers that go on into free rows, or new ones."""
        going = [place for place, one in enumerate(answers) if not one.is_over]
        if not going:
            return
        if len(going) < len(answers):
            kept = torch.tensor(going, device=mask.device)
            cache.batch_select_indices(kept)
            mask = mask[kept]
        free = [place for place, row in enumerate(self._rows) if row is None][: len(going)]
        more = len(going) - len(free)
        places = [*free, *range(len(self._rows), len(self._rows) + more)]
        self._rows.extend([None] * more)
        self._slots.admit(cache, mask, places)
        for place, which in zip(places, going, strict=True):
            self._rows[place] = answers[which]

    def _leave(self) -> None:
        """Free the rows of answers that are over; take them out when they are half of all."""
        for place, row in enumerate(self._rows):
            if row is not None and row.is_over:
                self._rows[place] = None
                self._slots.forget(place)
        living = [place for place, row in enumerate(self._rows) if row is not None]
        if not living:
            self._rows, self._slots = [], Slots()
        elif len(living) <= len(self._rows) // 2 and not self._waiting:
            self._slots.keep(living)
            self._rows = [self._rows[place] for place in living]

    def _fail(self, joining: Sequence[_Answer], error: Exception) -> None:
        """Tell everybody in the batch, and begin with an empty one."""
        words = "out of memory" if "out of memory" in str(error).lower() else "the model failed"
        lost = {one for one in (*joining, *self._rows) if one is not None and not one.is_over}
        self._tell([(one.put, Piece(one.index, words, finish="error")) for one in lost])
        self._rows, self._slots = [], Slots()

    def _tell(self, pieces: list[tuple[Put, Piece]]) -> None:
        def put() -> None:
            for tell, piece in pieces:
                tell(piece)

        if pieces and not self._is_closing:
            self._loop.call_soon_threadsafe(put)
