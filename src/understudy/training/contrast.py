"""Labelled answers as tokens: pairs for DPO, single answers for KTO. Nothing here imports torch."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from understudy.data import shots
from understudy.errors import BadInput
from understudy.models import load
from understudy.records import Coverage, Preference
from understudy.store.artifacts import Job
from understudy.training.checkpoints import Ready, checkpoints_of
from understudy.training.data import Encoded, Example, encode

Kind = Literal["dpo", "kto"]


class Contrasts(NamedTuple):
    """What is learned from, and what was left out."""

    examples: list[Example]
    over_length: int = 0
    misaligned: int = 0  # as in data.Encodings, or with prompts in other tokens
    remainder: int = 0  # what does not fill a last batch


class Contrasted(NamedTuple):
    """What is trained on, and what is only measured."""

    train: Contrasts
    validation: Contrasts

    def counts(self) -> dict[str, int]:
        """The part of the summary that the data tell."""
        train, held = self.train, self.validation
        sizes = [
            {name: len(ids) for name, ids in one.items() if name.endswith("_ids")}
            for one in train.examples
        ]
        answers = sum(sum(size.values()) - size["prompt_ids"] for size in sizes)
        twice = sum((len(size) - 1) * size["prompt_ids"] for size in sizes)
        return {
            "rows": len(train.examples),
            "rows_over_length": train.over_length,
            "rows_misaligned": train.misaligned,
            "rows_remainder": train.remainder,
            "tokens": twice + answers,
            "answer_tokens": answers,
            "validation_rows": len(held.examples),
            "validation_rows_over_length": held.over_length,
            "validation_rows_misaligned": held.misaligned,
        }

    def ready(self, job: Job, tokenizer: Any, model: Any) -> Ready:
        """The data as the trainer takes them; the trainer is made once the steps are planned."""
        from understudy.training import objectives  # nine seconds, so not at the top

        config, train, held = job.config, self.train.examples, self.validation.examples
        reference = None  # of an adapter: that adapter as it is now
        if config.trainer.trains == "full":
            path = job.inputs["previous"] / "model"
            reference = load.finetuned(config.model, path, load.full_precision())

        def make(schedule: Any) -> Any:
            places = train, held, checkpoints_of(job)
            return objectives.make_trainer(config, model, reference, tokenizer, *places, schedule)

        return Ready(len(train), bool(held), make)


def encoded(job: Job, tokenizer: Any) -> Contrasted:
    """The labelled answers of a job; raises BadInput where they do not fill one batch."""
    config, recipe = job.config, job.config.trainer
    rows = job.rows("preference", Preference)
    first = shots.of(config, job.rows("split", Coverage))

    def before(row: Coverage) -> Coverage:
        if first is None:
            return row
        count = load.counter(tokenizer, row.tools)
        asked = first.before(row.prompt, count, row.group_id)
        return replace(row, messages=[*asked, row.messages[-1]])

    assert recipe.kind in ("dpo", "kto"), f"trainer.kind={recipe.kind} learns from no labels"
    stop, kind = load.stop_id(tokenizer, config.model), recipe.kind
    train, held = (
        encode_answers(
            kind,
            [row for row in rows if row.split == split],
            before,
            tokenizer,
            stop,
            recipe.max_length,
        )
        for split in ("train", "validation")
    )
    if not held.examples and (recipe.keep == "best" or recipe.patience is not None):
        job.notes.setdefault("warnings", []).append(
            f"{kind}: no answer to a validation prompt is worse than the wanted one, so the last "
            "step is shipped, and nothing stops the training early"
        )
    return Contrasted(in_whole_batches(train, recipe.batch_size), held)


def encode_answers(
    kind: Kind,
    rows: Sequence[Preference],
    before: Callable[[Coverage], Coverage],
    tokenizer: Any,
    stop_id: int,
    max_length: int,
) -> Contrasts:
    """The examples of one split, in the order of the rows; `before` puts shots before a prompt.

    A row that is too long is left out, never cut, and so is a pair with such a row.
    """
    examples, over_length, misaligned = list[Example](), 0, 0
    known = dict[tuple[str, int], Encoded | None]()
    for some in _examples(kind, rows):
        found = []
        for row in some:
            place = row.prompt_id, row.k
            if place not in known:
                known[place] = encode(before(_as_coverage(row)), tokenizer, stop_id)
            found.append(known[place])
        whole = [one for one in found if one is not None]
        prompts = {one.ids[: one.prompt_tokens] for one in whole}
        if len(whole) < len(some) or len(prompts) > 1:
            misaligned += 1
        elif any(len(one.ids) > max_length for one in whole):
            over_length += 1
        else:
            answers = [list(one.ids[one.prompt_tokens :]) for one in whole]
            examples.append({"prompt_ids": list(prompts.pop()), **_named(kind, some, answers)})
    return Contrasts(examples, over_length, misaligned)


def in_whole_batches(found: Contrasts, batch_size: int) -> Contrasts:
    """The same without the rest that fills no batch, which ranks could not share evenly.

    Raises BadInput where there is not even one batch.
    """
    rest = len(found.examples) % batch_size
    if rest == len(found.examples):
        raise BadInput(
            f"the model's own answers make {rest} examples to learn from, fewer than "
            f"preference.batch_size={batch_size} (preference/…/summary.json says what was "
            "dropped); lower it, raise preference.samples, or train by SFT alone"
        )
    return found._replace(examples=found.examples[: len(found.examples) - rest], remainder=rest)


def _examples(kind: Kind, rows: Sequence[Preference]) -> Iterator[list[Preference]]:
    """The rows of each example: DPO's wanted and worse answer, or KTO's one."""
    if kind == "kto":
        yield from ([row] for row in rows)
        return
    wanted, worse = dict[str, Preference](), defaultdict[str, list[Preference]](list)
    for row in rows:
        if row.k < 0:
            wanted[row.prompt_id] = row
        elif not row.is_good:
            worse[row.prompt_id].append(row)
    for name, some in worse.items():
        yield from ([wanted[name], one] for one in some)


def _named(kind: Kind, rows: Sequence[Preference], answers: list[list[int]]) -> Example:
    if kind == "kto":
        return {"completion_ids": answers[0], "label": rows[0].is_good}
    return {"chosen_ids": answers[0], "rejected_ids": answers[1]}


def _as_coverage(row: Preference) -> Coverage:
    whose = "sampled" if row.k >= 0 else "wanted"
    return Coverage(
        *(row.prompt_id, row.group_id, row.messages, "", None, whose, row.split), tools=row.tools
    )
