"""What a directory says about the model in it, and that an adapter is served with its base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support import configs, servers
from support.served_models import a_run
from support.servers import chat, post
from understudy import locations
from understudy.errors import BadInput
from understudy.export import merge
from understudy.models import load
from understudy.pipeline import chosen
from understudy.serve.model import of_directory, of_run
from understudy.serve.process import serving


def a_copy(path: Path, **generation: Any) -> Path:
    """The shipped model with other generation defaults."""
    shutil.copytree(locations.model("package:tiny"), path)
    file = path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | generation))
    return path


def test_stops_and_sampling_are_those_of_the_generation_config(tmp_path: Path) -> None:
    usual = of_directory(a_copy(tmp_path / "usual"))
    assert (usual.name, usual.stop_ids, usual.stop_texts) == ("usual", {2}, ())
    assert (usual.context, usual.temperature) == (1024, 1.0)
    changes = {"eos_token_id": [2, 7], "stop_strings": ["END"], "do_sample": False}
    exported = of_directory(a_copy(tmp_path / "exported", **changes))
    assert (exported.stop_ids, exported.stop_texts) == ({2, 7}, ("END",))
    assert exported.temperature == 0.0
    warm = of_directory(a_copy(tmp_path / "warm", do_sample=True, temperature=0.7))
    assert warm.temperature == 0.7


def test_stop_strings_of_the_model_end_every_answer(tmp_path: Path) -> None:
    path = a_copy(tmp_path / "model", stop_strings=["Tues"])
    with serving(of_directory(path), configs.serve()) as url, servers.tiny() as plain:
        made = post(url, chat(model="model")).json["choices"][0]
        whole = post(plain.url, chat()).json["choices"][0]["message"]["content"]
    assert made["message"]["content"] == whole.partition("Tues")[0] != whole
    assert made["finish_reason"] == "stop"


def test_the_context_is_the_smaller_of_models_and_tokenizers(tmp_path: Path) -> None:
    path = a_copy(tmp_path / "short")
    file = path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 96}))
    assert of_directory(path).context == 96


@pytest.mark.slow
def test_an_export_is_served_with_the_context_that_was_judged(tmp_path: Path) -> None:
    import torch

    found = chosen.choose(a_run(tmp_path))
    assert found.finetuned is not None
    merge.merged(found.config, found.finetuned, torch.float32, tmp_path / "merged")
    merge.adapter(found.config, found.finetuned, tmp_path / "adapter")
    assert of_directory(tmp_path / "merged").context == of_run(found).context == 96
    told = json.loads((tmp_path / "adapter/tokenizer_config.json").read_text())
    assert told["model_max_length"] == 96


def test_a_directory_without_tokenizer_or_template_is_refused(tmp_path: Path) -> None:
    path = a_copy(tmp_path / "bare")
    (path / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="has no chat template"):
        of_directory(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()
    with pytest.raises(BadInput, match="has no tokenizer"):
        of_directory(path)


@pytest.mark.parametrize("text", ["{}", "{", '{"model_type": "nobody"}'])
def test_a_config_that_names_no_model_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = a_copy(tmp_path / "odd")
    (path / "config.json").write_text(text)
    with pytest.raises(BadInput, match="has no config that transformers can read: ") as caught:
        of_directory(path)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.slow
def test_an_adapters_directory_answers_as_its_run(tmp_path: Path) -> None:
    found = chosen.choose(a_run(tmp_path))
    assert found.finetuned is not None
    file = found.finetuned / "adapter_config.json"
    base = load.directory(found.config.model)
    told = json.loads(file.read_text()) | {"base_model_name_or_path": str(base)}
    adapter = shutil.copytree(found.finetuned, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    answers = []
    for served in (of_run(found), of_directory(adapter)):
        assert served.directory is None
        with serving(served, configs.serve()) as url:
            answers.append(post(url, chat(model=served.name)).json["choices"][0]["message"])
    assert answers[0] == answers[1]
