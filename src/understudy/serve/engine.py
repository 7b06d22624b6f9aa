"""Answer with transformers in this process: answers join and leave the batch between two steps.

A thread of its own drives the decode loop (`inference/decode.py`); pieces come to the event loop
once a step.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch

from understudy.config.serve import ServeConfig
from understudy.inference import DecodeRequest, Logprob
from understudy.inference.caches import Slots
from understudy.inference.decode import Batch, Detokenizer, Growing, noise_of, prompt_logprobs
from understudy.inference.forms import Forms
from understudy.models import load
from understudy.serve import Piece, Put
from understudy.serve.model import Served

_log = logging.getLogger(__name__)


class _Answer(Growing):
    """One answer under way, and who hears of it."""

    def __init__(
        self, asked: DecodeRequest, index: int, put: Put, served: Served, forms: Forms
    ) -> None:
        stops = (*asked.stop, *served.stop_texts)
        text = Detokenizer(served.tokenizer, stops, asked.is_streamed)
        own = frozenset() if asked.ignores_end else served.stop_ids
        super().__init__(asked, text, own.union(asked.stop_ids), noise_of(asked, asked.key, index))
        if asked.schema is not None:
            self.constraint = forms.constraint(asked.schema)
        self.index, self.put = index, put
        self.prompt: list[Logprob] = []  # that is not told yet
        self._told = 0  # tokens that are in pieces
        self.is_told = False  # whether the last piece is out

    def piece(self) -> Piece | None:
        """What is to be told now, if anything."""
        if self.finish is None and not (self.asked.is_streamed and self.text):
            return None
        if self.finish == "error":
            return Piece(self.index, "the form is too complex for this model", finish="error")
        if self.finish is not None:
            self.text += self.detokenizer.end()
        new = slice(self._told, None)
        piece = Piece(
            *(self.index, self.text, self.tokens[new], self.logprobs[new]),
            prompt=self.prompt,
            finish=self.finish,
        )
        self._told, self.text, self.prompt = len(self.tokens), "", []
        return piece


class TransformersEngine:
    """A `serve.Engine`."""

    def __init__(self, served: Served, settings: ServeConfig, kind: Any = None) -> None:
        self.about = f"transformers {version('transformers')}"
        if settings.threads is not None:
            load.use_threads(settings.threads)
        self._served, self._settings = served, settings
        self._forms = Forms(served.tokenizer, served.stop_ids)
        self._batch: Batch[_Answer] = Batch(served.load(kind or load.dtype()).eval(), Slots)
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

    def prepare(self, asked: DecodeRequest) -> None:
        if asked.schema is not None:
            self._forms.constraint(asked.schema)

    def start(self, asked: DecodeRequest, put: Put) -> Callable[[], None]:
        answers = [
            _Answer(asked, index, put, self._served, self._forms) for index in range(asked.n)
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
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_closing or self._waiting or self._batch.rows
                )
                if self._is_closing:
                    return
                joining = self._take()
            try:
                with torch.inference_mode():
                    if joining:
                        self._read(joining)
                    self._tell(self._batch.step(others_wait=bool(self._waiting)))
            except Exception as error:  # of the model or the device; the server goes on
                _log.exception("a step failed")
                self._fail({*joining, *self._batch.rows}, error)

    def _read(self, joining: list[_Answer]) -> None:
        """Score the prompts that are to be, and let the answers that get tokens join."""
        model = self._batch.model
        scored: dict[tuple[tuple[int, ...], int], list[Logprob]] = {}
        for one in joining:
            ids, top = one.asked.ids, one.asked.top_logprobs or 0
            if one.asked.scores_prompt:
                if (ids, top) not in scored:
                    scored[ids, top] = prompt_logprobs(model, ids, top)
                one.prompt = scored[ids, top]
            if not one.asked.max_tokens:
                one.finish = "length"
        if growing := [one for one in joining if not one.is_over]:
            self._batch.join(growing)
        self._tell(joining)

    def _take(self) -> list[_Answer]:
        """The answers that join now: as many as there is room for, but not too long to read."""
        room = self._settings.batch_size - sum(not row.is_over for row in self._batch.rows)
        taken: list[_Answer] = []
        longest = 0
        while self._waiting and len(taken) < room:
            ids = self._waiting[0].asked.ids
            longest = max(longest, len(ids))
            prompts = {one.asked.ids for one in taken} | {ids}
            if taken and longest * len(prompts) > self._settings.prefill_tokens:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _tell(self, answers: Sequence[_Answer]) -> None:
        """Give the event loop what answers have grown by."""
        pieces = [(one.put, one.piece()) for one in answers if not one.is_cancelled]
        self._put([(put, piece) for put, piece in pieces if piece is not None])
        for one in answers:
            one.is_told = one.is_over

    def _fail(self, answers: set[_Answer], error: Exception) -> None:
        """Tell everybody in the batch, and begin with an empty one."""
        words = "out of memory" if "out of memory" in str(error).lower() else "the model failed"
        lost = [one for one in answers if not (one.is_told or one.is_cancelled)]
        self._put([(one.put, Piece(one.index, words, finish="error")) for one in lost])
        self._batch.clear()

    def _put(self, pieces: list[tuple[Put, Piece]]) -> None:
        def put() -> None:
            for tell, piece in pieces:
                tell(piece)

        if pieces and not self._is_closing:
            self._loop.call_soon_threadsafe(put)
