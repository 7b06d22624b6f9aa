"""Answers that join and leave a batch are those of one decoding alone, token for token."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import configs, tiny_model
from understudy.config.serve import ServeConfig
from understudy.errors import EnvironmentFailed
from understudy.inference import DecodeRequest, Generated, PromptSample, Sampling, decode
from understudy.serve import Piece
from understudy.serve.engine import TransformersEngine
from understudy.serve.model import Served, of_directory


def loaded(path: Path) -> tuple[Served, Any]:
    """A model in double precision, so that no rounding tells batches apart."""
    import torch

    served = of_directory(path)
    model = served.load(torch.float64).eval()
    return replace(served, load=lambda kind: model), model


def prompts(count: int) -> list[tuple[int, ...]]:
    draw = random.Random(0)
    return [tuple(draw.choices(range(5, 300), k=draw.randrange(1, 40))) for _ in range(count)]


def answer(
    served: Served,
    settings: ServeConfig,
    requests: list[DecodeRequest],
    wait: Callable[[int], float] | None,
) -> list[list[list[Piece]]]:
    """The pieces of each answer to each request; `wait(n)` seconds pass before the n-th."""

    async def one(engine: TransformersEngine, number: int) -> list[list[Piece]]:
        if wait is not None:
            await asyncio.sleep(wait(number))
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        engine.start(requests[number], pieces.put_nowait)
        found: list[list[Piece]] = [[] for _ in range(requests[number].n)]
        while any(not of_one or of_one[-1].finish is None for of_one in found):
            piece = await asyncio.wait_for(pieces.get(), 30)
            assert piece.finish != "error", piece.text
            found[piece.index].append(piece)
        return found

    async def everything() -> list[list[list[Piece]]]:
        engine = TransformersEngine(served, settings)
        await engine.open()
        try:
            found = await asyncio.gather(*(one(engine, n) for n in range(len(requests))))
            return list(found)
        finally:
            await engine.close()

    return asyncio.run(everything())


def alone(served: Served, model: Any, asked: DecodeRequest, k: int) -> Generated:
    sampling = Sampling(
        asked.seed, asked.temperature, asked.max_tokens, served.stop_ids, asked.stop
    )
    wanted = PromptSample(asked.key, "", asked.ids, (k,))
    return decode.generate(model, served.tokenizer, [wanted], sampling)[0]


def mixed(count: int) -> list[DecodeRequest]:
    return [
        DecodeRequest(
            ids=ids,
            max_tokens=3 + 7 * (number % 5),
            n=1 + number % 3,
            temperature=(0.0, 1.0, 0.7)[number % 3],
            seed=number,
            is_streamed=number % 2 == 0,
        )
        for number, ids in enumerate(prompts(count))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "sliding"])
def test_answers_that_join_a_running_batch_are_those_of_one_alone(
    tmp_path: Path, kind: str
) -> None:
    if kind == "sliding":
        path = sliding(tmp_path / "base")
    else:
        path = tiny_model.save(tmp_path / "base", kind)
    served, model = loaded(path)
    requests = mixed(18)
    settings = configs.serve(batch_size=7, prefill_tokens=60)
    found = answer(served, settings, requests, lambda n: 0.004 * n)
    for asked, answers in zip(requests, found, strict=True):
        for k, pieces in enumerate(answers):
            single = alone(served, model, asked, k)
            tokens = [token for piece in pieces for token in piece.tokens]
            assert [t for t in tokens if t not in served.stop_ids] == single.tokens
            text = "".join(piece.text for piece in pieces)
            # A byte that comes later can spoil a whole run of bytes, which a stream has told.
            assert text == single.text or (asked.is_streamed and "\ufffd" in single.text)
            assert pieces[-1].finish == ("stop" if single.is_stopped else "length")


def sliding(path: Path) -> Path:
    """A Mistral whose attention sees eight tokens, some layers of a Gemma 3 all."""
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    tiny_model.save(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        **{"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64},
        **{"num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1},
        **{"head_dim": 16, "sliding_window": 8, "max_position_embeddings": 128},
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Gemma3ForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.mul_(6.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(path)
    return path


def single(served: Served, **options: Any) -> Piece:
    """One answer to a fixed prompt."""
    asked = DecodeRequest(ids=prompts(1)[0], **({"max_tokens": 12, "temperature": 0.0} | options))
    (((piece,),),) = answer(served, configs.serve(), [asked], None)
    return piece


def test_log_probabilities_are_those_of_the_model_before_temperature_and_penalties(
    base: Path,
) -> None:
    import torch

    served, model = loaded(base)
    made = single(served, top_logprobs=3, temperature=1.7, frequency=2.0, seed=5)
    ids = [*prompts(1)[0], *made.tokens]
    with torch.inference_mode():
        rows = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    assert len(made.logprobs) == len(made.tokens)
    for place, told in enumerate(made.logprobs):
        row = rows[len(prompts(1)[0]) - 1 + place]
        assert told.token == made.tokens[place]
        assert told.logprob == pytest.approx(float(row[told.token]), abs=1e-5)
        values, tokens = row.topk(3)
        assert [token for token, _ in told.top] == tokens.tolist()
        assert [value for _, value in told.top] == pytest.approx(values.tolist(), abs=1e-5)


def test_the_largest_frequency_penalty_and_a_bias_keep_a_token_from_coming_again(
    base: Path,
) -> None:
    served, _ = loaded(base)
    plain = single(served).tokens
    assert len(set(plain)) < len(plain), "the plain answer repeats itself"
    banned = single(served, bias={plain[0]: -100.0}).tokens
    assert plain[0] not in banned
    penalised = single(served, frequency=2.0, presence=2.0).tokens
    assert len(set(penalised)) > len(set(plain))


def test_a_narrow_nucleus_is_greedy_and_a_wide_one_is_not(base: Path) -> None:
    served, _ = loaded(base)
    greedy = single(served).tokens
    assert single(served, temperature=2.0, top_p=1e-6, seed=3).tokens == greedy
    assert single(served, temperature=2.0, top_p=1.0, seed=3).tokens != greedy


def test_an_answer_that_is_cancelled_gives_its_room_to_others(base: Path) -> None:
    served, _ = loaded(base)
    asked = DecodeRequest(
        ids=(7, 8, 9), max_tokens=100, seed=1, bias={t: -100.0 for t in served.stop_ids}
    )

    async def play() -> None:
        engine = TransformersEngine(served, configs.serve(batch_size=2))
        await engine.open()
        told: list[Piece] = []
        cancels = [engine.start(replace(asked, seed=n), told.append) for n in range(6)]
        for cancel in cancels[:-1]:
            cancel()
        while not told:
            await asyncio.sleep(0.001)
        await engine.close()
        assert [piece.finish for piece in told] == ["length"]
        assert not engine.is_alive()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_answers_that_are_cancelled_while_the_batch_is_full_are_forgotten(base: Path) -> None:
    served, _ = loaded(base)
    asked = DecodeRequest(ids=(7, 8, 9), max_tokens=100, bias={t: -100.0 for t in served.stop_ids})

    async def play() -> None:
        engine = TransformersEngine(served, configs.serve(batch_size=1))
        await engine.open()
        told: list[Piece] = []
        engine.start(replace(asked, is_streamed=True), told.append)
        while not told:
            await asyncio.sleep(0.001)
        puts = [told.append for _ in range(3)]
        for put in puts:
            engine.start(asked, put)()
        assert told[-1].finish is None, "the batch is still full"
        assert not engine._waiting
        await engine.close()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_a_step_that_fails_ends_its_answers_and_the_next_one_is_served(base: Path) -> None:
    served, model = loaded(base)
    faults = iter([True])

    def faulty(**inputs: Any) -> Any:
        if inputs["past_key_values"] is not None and next(faults, False):
            raise RuntimeError("CUDA out of memory. Tried to allocate 16.00 GiB.")
        return model(**inputs)

    class Faulty:
        device = model.device

        def __call__(self, **inputs: Any) -> Any:
            return faulty(**inputs)

        def eval(self) -> "Faulty":
            return self

    async def play() -> list[Piece]:
        engine = TransformersEngine(replace(served, load=lambda kind: Faulty()), configs.serve())
        await engine.open()
        told: asyncio.Queue[Piece] = asyncio.Queue()
        found = []
        for _ in range(2):
            engine.start(
                DecodeRequest(ids=(7, 8, 9), max_tokens=5, temperature=0.0), told.put_nowait
            )
            found.append(await asyncio.wait_for(told.get(), 30))
        await engine.close()
        return found

    first, second = asyncio.run(play())
    assert (first.finish, first.text) == ("error", "out of memory")
    assert second.finish in ("stop", "length")


def test_an_answer_that_cannot_be_told_ends_in_an_error(base: Path) -> None:
    served, _ = loaded(base)

    def decode(*_: Any, **__: Any) -> str:
        raise ValueError("these tokens spell nothing")

    async def play() -> Piece:
        mute = replace(served, tokenizer=SimpleNamespace(decode=decode))
        engine = TransformersEngine(mute, configs.serve())
        await engine.open()
        told: asyncio.Queue[Piece] = asyncio.Queue()
        engine.start(DecodeRequest(ids=(7, 8), max_tokens=2, temperature=0.0), told.put_nowait)
        try:
            return await asyncio.wait_for(told.get(), 30)
        finally:
            await engine.close()

    assert asyncio.run(play()).finish == "error"


def test_a_model_whose_cache_is_of_another_kind_is_refused_in_words(base: Path) -> None:
    import torch
    from transformers.cache_utils import Cache, StaticLayer

    from understudy.inference.caches import Slots

    layer = StaticLayer(max_cache_len=8)
    layer.lazy_initialization(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
    with pytest.raises(EnvironmentFailed, match=r"StaticLayer; serve it with serve\.engine=vllm"):
        Slots().admit(Cache(layers=[layer]), torch.ones(1, 3), [0])
