"""Stage inference: what an answer depends on, where it ends, and what is said about it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from support import tiny_model
from support.tiny_model import infer, questions
from understudy.errors import BadInput
from understudy.inference.caches import common_start
from understudy.inference.decode import pick, uniforms
from understudy.models import load


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])  # relative and absolute positions
def test_answers_do_not_depend_on_the_batch_size_in_double_precision(
    tmp_path: Path, kind: str
) -> None:
    base = tiny_model.save(tmp_path / "model", kind)
    rows = questions(12)
    one, four, all_ = (
        infer(
            tmp_path / str(size),
            base,
            rows,
            dtype=torch.float64,
            inference__batch_size=size,
            inference__max_new_tokens=24,
        )[0]
        for size in (1, 5, 64)
    )
    assert one == four == all_
    assert len({answer["text"] for answer in one}) == len(one)


def test_what_prompts_begin_with_is_read_once_and_changes_no_answer_in_double_precision(
    tmp_path: Path, base: Path
) -> None:
    rows = questions(12)
    each, once = (
        infer(tmp_path / str(is_shared), base, rows, dtype=torch.float64, **changes)[0]
        for is_shared, changes in (
            (False, {}),
            (True, {"inference__shared_start": True}),
        )
    )
    assert each == once


def test_the_common_start_leaves_each_prompt_a_token_of_its_own() -> None:
    assert common_start([(1, 2, 3), (1, 2), (1, 2, 3, 4)]) == (1,)
    assert common_start([(1, 2), (3, 2)]) == ()


@pytest.mark.slow
def test_answers_hardly_depend_on_the_batch_size_in_single_precision(
    tmp_path: Path, base: Path
) -> None:
    rows = questions(150)
    small, _ = infer(tmp_path / "small", base, rows, inference__batch_size=16)
    large, _ = infer(tmp_path / "large", base, rows, inference__batch_size=150)
    assert sum(a == b for a, b in zip(small, large, strict=True)) >= 0.999 * len(small)


def test_a_run_that_goes_on_after_a_crash_gives_the_same_bytes(tmp_path: Path, base: Path) -> None:
    infer(tmp_path / "whole", base, questions(9))
    whole = (tmp_path / "whole/out/rows.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "torn/out").mkdir(parents=True)
    # Rows of several batches, one of them torn: the batches they are in are generated again.
    torn = b"".join([lines[11], lines[2], lines[3], lines[7][:40]])
    (tmp_path / "torn/out/rows.jsonl").write_bytes(torn)
    infer(tmp_path / "torn", base, questions(9))
    assert (tmp_path / "torn/out/rows.jsonl").read_bytes() == whole


def test_a_seed_changes_the_answers(tmp_path: Path, base: Path) -> None:
    first, _ = infer(tmp_path / "0", base, questions(3))
    second, _ = infer(tmp_path / "1", base, questions(3), seed=1)
    assert [a["text"] for a in first] != [a["text"] for a in second]


def test_greedy_answers_to_a_prompt_are_equal_and_equal_those_of_transformers(
    tmp_path: Path, base: Path
) -> None:
    rows = questions(5)
    answers, _ = infer(
        tmp_path, base, rows, dtype=torch.float64, inference__temperature=0.0, inference__k=3
    )
    config = tiny_model.build(base)
    tokenizer = load.tokenizer(config.model)
    model = load.base(config.model, torch.float64)
    for row in rows:
        ids = tokenizer.apply_chat_template(
            row.prompt, add_generation_prompt=True, return_tensors="pt"
        )
        made = model.generate(**ids, max_new_tokens=12, do_sample=False)
        text = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        mine = [a for a in answers if a["prompt_id"] == row.id]
        assert [(a["k"], a["text"]) for a in mine] == [(k, text) for k in range(3)]


@pytest.mark.slow
def test_answers_end_at_the_stop_token_or_are_marked_as_cut_off(tmp_path: Path, base: Path) -> None:
    answers, notes = infer(
        tmp_path, base, questions(20), inference__max_new_tokens=60, inference__k=4
    )
    stopped = [a for a in answers if a["finish"] == "stop"]
    cut_off = [a for a in answers if a["finish"] == "length"]
    assert len(stopped) + len(cut_off) == len(answers)
    assert stopped
    assert all(a["tokens"] < 60 and tiny_model.STOP not in a["text"] for a in stopped)
    assert all(a["tokens"] == 60 for a in cut_off)
    assert notes["length"] == len(cut_off)


def test_a_stop_string_cuts_the_text_before_it(tmp_path: Path, base: Path) -> None:
    free, _ = infer(tmp_path / "free", base, questions(20))
    texts = [answer["text"] for answer in free]
    pairs = [text[i : i + 2] for text in texts for i in range(1, len(text))]
    stop = next(pair for pair in pairs if pair.isascii() and pair.isalpha())
    changes = {"model__stop": [tiny_model.STOP, stop]}
    stopped, _ = infer(tmp_path / "cut", base, questions(20), **changes)
    assert [answer["text"] for answer in stopped] == [text.partition(stop)[0] for text in texts]
    cut = [after for text, after in zip(texts, stopped, strict=True) if stop in text]
    assert {answer["finish"] for answer in cut} == {"stop"}


def test_an_empty_answer_is_kept(tmp_path: Path, base: Path) -> None:
    answers, _ = infer(
        tmp_path,
        base,
        questions(2),
        inference__temperature=0.0,
        model__stop=[tiny_model.STOP, "\n"],  # what this model says greedily
    )
    assert [a["text"] for a in answers] == [""] * 4


def test_a_prompt_that_leaves_no_room_is_marked_and_counted(tmp_path: Path, base: Path) -> None:
    long = tiny_model.row("long", "colour " * 100, "red", "test")
    answers, notes = infer(tmp_path, base, [*questions(2), long])
    marked = [a for a in answers if a["prompt_id"] == "long"]
    assert [(a["k"], a["text"], a["tokens"], a["finish"]) for a in marked] == [
        (k, "", 0, "too_long") for k in range(2)
    ]
    assert notes["too_long"] == 2
    assert len(answers) == 6


def test_only_the_asked_split_is_answered(tmp_path: Path, base: Path) -> None:
    rows = [*questions(1), *tiny_model.rows(3, "train")]
    answers, _ = infer(tmp_path, base, rows)
    assert {a["prompt_id"] for a in answers} == {"p0"}
    with pytest.raises(BadInput, match="the test split is empty"):
        infer(tmp_path / "none", base, tiny_model.rows(3, "train"))


def test_the_numbers_of_an_answer_are_keyed_by_seed_prompt_and_k_only() -> None:
    streams = [uniforms(*key, 8) for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
    assert len({stream.tobytes() for stream in streams}) == 4
    assert np.array_equal(uniforms(0, "a", 0, 20)[:8], streams[0])


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_are_picked_as_often_as_their_probability_says(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -torch.inf, 2.0])
    count = 20_000
    noise = torch.from_numpy(uniforms(0, "prompt", 0, count))
    picked = Counter(pick(logits.repeat(count, 1), temperature, noise).tolist())
    wanted = (logits / temperature).softmax(dim=0).tolist()
    assert [picked[i] / count for i in range(4)] == pytest.approx(wanted, abs=0.01)
