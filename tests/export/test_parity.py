"""The parity check on real files: what is damaged on disk is named, and right merges pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from safetensors.torch import load_file, save_file

from support import exports, tiny_model
from understudy.errors import BadInput
from understudy.export import checks, merge
from understudy.export.parity import TOLERANCES, Report, tolerance
from understudy.models import load

FP32 = torch.float32
NEW = ("<|start|>", "<|end|>")


def judged(root: Path, config: Any, finetuned: Path | None) -> checks.Judged:
    return checks.judged(config, finetuned, exports.split(root / "split"), 6, 8, FP32)


def check(then: checks.Judged, exported: Path, dtype: Any = FP32) -> Report:
    report = Report()
    checks.check_files(then, exported, dtype, FP32, report)
    return report


def cause_of(then: checks.Judged, exported: Path) -> str:
    """Why what was exported is not what was judged."""
    cause = check(then, exported).cause
    assert cause is not None
    return cause


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> checks.Judged:
    root = tmp_path_factory.mktemp("judged")
    config = tiny_model.build(tiny_model.save(root / "base"))
    adapter = exports.adapter(root / "adapter", config)
    merge.merged(config, adapter, FP32, root / "merged")
    return judged(root, config, adapter)


@pytest.fixture
def files(then: checks.Judged, tmp_path: Path) -> Path:
    """The exported directory, to be damaged."""
    whole = Path(str(then.config.model.path)).parent / "merged"
    return Path(shutil.copytree(whole, tmp_path / "merged"))


def rewrite(files: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((files / name).read_text())
    change(values)
    (files / name).write_text(json.dumps(values))


def cast(files: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    path = files / "model.safetensors"
    tensors = {name: change(tensor).contiguous() for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


def test_the_tolerance_of_two_dtypes_is_that_of_the_coarser() -> None:
    assert tolerance("float32", "bfloat16") == TOLERANCES["bfloat16"]
    assert tolerance("float16", "float32") == TOLERANCES["float16"]


@pytest.mark.slow
def test_what_was_exported_is_what_was_judged(then: checks.Judged, files: Path) -> None:
    report = check(then, files)
    assert report.cause is None
    assert report.measured["weights"]["kl"] < TOLERANCES["float32"].kl / 10
    assert report.measured["weights"]["agreement"] == 1
    assert report.measured["weights"]["tokens"] > 6


def test_the_distance_is_the_divergence_of_all_tokens_on_the_judged_answers(
    then: checks.Judged,
) -> None:
    base = load.base(then.config.model, FP32)
    found = checks.distance(base, then.readings, then.answers)
    divergences, agreed = [], []
    for reading, answer in zip(then.readings, then.answers, strict=True):
        for place, logits in enumerate(answer.logits):
            ids = torch.tensor([[*reading.ids, *answer.tokens[:place]]])
            with torch.no_grad():
                other = base(input_ids=ids).logits[0, -1].double()
            p, q = logits.double().softmax(-1), other.softmax(-1)
            divergences.append(float(scipy.stats.entropy(p, q)))
            agreed.append(int(other.argmax()) == answer.tokens[place])
    assert found.tokens == len(divergences)
    assert found.kl == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)
    assert found.worst == pytest.approx(max(divergences), rel=1e-4)
    assert found.agreement == sum(agreed) / len(agreed)


def test_the_judged_model_is_not_its_base(then: checks.Judged, tmp_path: Path) -> None:
    merge.merged(then.config, None, FP32, tmp_path / "base")
    assert cause_of(then, tmp_path / "base").startswith("weights differ from those judged: KL ")


def test_a_wrong_template_is_caught_by_name(then: checks.Judged, files: Path) -> None:
    path = files / "chat_template.jinja"
    path.write_text(path.read_text().replace("assistant\\n", "assistant\\n\\n"))
    cause = check(then, files).cause
    text = then.readings[0].text
    assert cause == (
        f"chat template differs at character {len(text)} of prompt p0: "
        f"the end became {text[-10:] + chr(10)!r}"
    )


def test_a_missing_template_is_caught_by_name(then: checks.Judged, files: Path) -> None:
    (files / "chat_template.jinja").unlink()
    assert check(then, files).cause == "chat template is missing from merged"


def test_a_template_that_cannot_be_rendered_is_one_sentence(
    then: checks.Judged, files: Path
) -> None:
    (files / "chat_template.jinja").write_text("{% for message in %}")
    with pytest.raises(BadInput, match=r"the chat template refuses row p0: "):
        check(then, files)


def test_another_tokenizer_is_caught_by_its_first_token(then: checks.Judged, files: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["model"]["merges"] = values["model"]["merges"][:20]

    rewrite(files, "tokenizer.json", change)
    cause = cause_of(then, files)
    assert cause.startswith("token ids differ at token ")
    assert " of prompt p0: " in cause


@pytest.mark.parametrize("ends", [None, 4, [0, 4]])
def test_a_missing_stop_token_is_caught_by_name(
    ends: Any, then: checks.Judged, files: Path
) -> None:
    rewrite(files, "generation_config.json", lambda values: values.update(eos_token_id=ends))
    cause = cause_of(then, files)
    assert cause.startswith(
        "stop token <|im_end|> (id 2) is missing from generation_config.json, which stops at "
    )


def test_a_stop_that_was_not_judged_is_caught_too(then: checks.Judged, files: Path) -> None:
    rewrite(files, "generation_config.json", lambda values: values.update(eos_token_id=[2, 300]))
    cause = cause_of(then, files)
    assert cause.startswith("generation_config.json stops at ")
    assert cause.endswith("(id 300), where the judged model goes on")


def test_weights_stored_in_another_dtype_are_caught_by_name(
    then: checks.Judged, files: Path
) -> None:
    cast(files, torch.Tensor.half)
    count = len(load_file(files / "model.safetensors"))
    assert check(then, files).cause == (
        f"weights differ: {count} of {count} tensors are stored as float16, "
        "and float32 was exported"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_merge_damaged_by_a_dtype_is_caught_by_its_name(
    dtype: torch.dtype, then: checks.Judged, files: Path
) -> None:
    cast(files, lambda tensor: tensor.to(dtype).float())
    cause = check(then, files).cause
    name = load.dtype_name(dtype)
    assert cause is not None
    assert cause.startswith(
        "weights differ from those judged: they are float32 by name, but every value is rounded "
        f"to {name}: KL "
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_export_in_16_bits_is_as_judged_within_their_tolerance(
    dtype: torch.dtype, then: checks.Judged, tmp_path: Path
) -> None:
    adapter = Path(str(then.config.model.path)).parent / "adapter"
    merge.merged(then.config, adapter, dtype, tmp_path / "short")
    report = check(then, tmp_path / "short", dtype)
    assert report.cause is None
    measured = report.measured["weights"]["kl"]
    assert TOLERANCES["float32"].kl < measured < TOLERANCES[load.dtype_name(dtype)].kl


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True")  # peft#2777
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["norm"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"trainable_token_indices": [5, 6]},
        {"trainable_token_indices": {"embed_tokens": [5, 6]}},
        {"target_modules": "all-linear", "r": 8},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head", "q_proj"]},
    ],
    ids=str,
)
def test_more_than_lora_matrices_is_merged_right(
    options: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    config = tiny_model.build(tiny_model.save(tmp_path / "base", tied=tied))
    adapter = exports.adapter(tmp_path / "adapter", config, **options)
    then = judged(tmp_path, config, adapter)
    merge.merged(config, adapter, FP32, tmp_path / "merged")
    report = check(then, tmp_path / "merged")
    assert report.cause is None
    merge.merged(config, None, FP32, tmp_path / "plain")
    assert check(then, tmp_path / "plain").cause is not None  # the adapter does change answers


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_new_tokens_are_merged_right(tied: bool, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(
        "{% for m in messages %}<|start|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant {% endif %}"
    )
    new = {"model__new_tokens": NEW, "model__stop": ["<|end|>"]}
    base = tiny_model.save(tmp_path / "base", tied=tied)
    config = tiny_model.build(base, **new, model__chat_template=str(template))
    new_ids = [load.tokenizer(config.model).convert_tokens_to_ids(t) for t in NEW]
    rows = {"embed_tokens": new_ids} | ({} if tied else {"lm_head": new_ids})
    adapter = exports.adapter(tmp_path / "adapter", config, trainable_token_indices=rows)
    then = judged(tmp_path, config, adapter)
    assert set(new_ids) <= set(then.readings[0].ids)
    merge.merged(config, adapter, FP32, tmp_path / "merged")
    report = check(then, tmp_path / "merged")
    assert report.cause is None
    assert new_ids[1] in report.measured["stops"]["ids"]


def test_an_adapter_of_new_tokens_does_not_load_on_its_base_and_is_not_exported(
    then: checks.Judged,
) -> None:
    base = Path(str(then.config.model.path))
    config = tiny_model.build(base, trainer__kind="lora", model__new_tokens=NEW)
    with pytest.raises(BadInput, match=r"new_tokens=.*start.*; choose export\.what=merged"):
        merge.check_adapter(config, base.parent / "adapter")


def test_stop_strings_and_the_sampling_that_was_judged_are_exported(tmp_path: Path) -> None:
    base = tiny_model.save(tmp_path / "base")
    config = tiny_model.build(base, model__stop=[tiny_model.STOP, "\n\n"])
    then = judged(tmp_path, config, None)
    merge.merged(config, None, FP32, tmp_path / "merged")
    assert check(then, tmp_path / "merged").cause is None
    written = json.loads((tmp_path / "merged/generation_config.json").read_text())
    assert written["stop_strings"] == ["\n\n"]
    assert (written["do_sample"], written["temperature"]) == (True, 1.0)
    assert written["max_new_tokens"] == config.inference.max_new_tokens
    rewrite(
        tmp_path / "merged", "generation_config.json", lambda values: values.pop("stop_strings")
    )
    cause = check(then, tmp_path / "merged").cause
    assert cause == r"stop string '\n\n' is missing from generation_config.json"


def test_an_adapter_by_itself_is_the_judged_model_on_its_base(
    then: checks.Judged, tmp_path: Path
) -> None:
    adapter = Path(str(then.config.model.path)).parent / "adapter"
    merge.adapter(then.config, adapter, tmp_path / "adapter")
    report = check(then, tmp_path / "adapter")
    assert report.cause is None
    assert report.measured["weights"]["kl"] == 0
    path = tmp_path / "adapter/adapter_model.safetensors"
    save_file({k: v * 0.9 for k, v in load_file(path).items()}, path, {"format": "pt"})
    assert cause_of(then, tmp_path / "adapter").startswith("weights differ from those judged: KL ")
