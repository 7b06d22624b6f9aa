"""Completions of texts and tokens, and the log-probabilities that benchmarks compare."""

from typing import Any

import openai
import pytest

from support.servers import Answer, Server, post

TEXT = "What is the colour of the sky?"


def ask(server: Server, **fields: Any) -> Answer:
    usual = {"model": "tiny", "prompt": TEXT, "temperature": 0, "max_tokens": 4}
    return post(server.url, usual | fields, "/v1/completions")


def test_an_echo_has_the_log_probabilities_of_the_model(server: Server) -> None:
    import torch

    tokenizer = server.served.tokenizer
    ids = tokenizer.encode(TEXT)
    model = server.served.load(torch.float32)
    with torch.inference_mode():
        rows = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    wanted = [float(rows[place, token]) for place, token in enumerate(ids[1:])]
    greedy = [float(row.max()) for row in rows[:-1]]
    # As lm-eval's local-completions asks: tokens, one more token, the likeliest of each.
    made = ask(server, prompt=[ids, ids[:5]], max_tokens=1, logprobs=1, echo=True)
    first, second = made.json["choices"]
    told = first["logprobs"]
    assert {len(values) for values in told.values()} == {len(ids) + 1}
    assert told["token_logprobs"][0] is told["top_logprobs"][0] is None
    assert told["token_logprobs"][1:-1] == pytest.approx(wanted, abs=1e-4)
    assert [max(top.values()) for top in told["top_logprobs"][1:-1]] == pytest.approx(
        greedy, abs=1e-4
    )
    assert len(second["logprobs"]["tokens"]) == 6
    assert made.json["usage"]["prompt_tokens"] == len(ids) + 5


def test_nothing_but_the_prompt_is_told_where_no_token_is_wanted(server: Server) -> None:
    made = ask(server, echo=True, max_tokens=0, logprobs=0).json
    (choice,) = made["choices"]
    assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")
    assert made["usage"]["completion_tokens"] == 0
    assert "".join(choice["logprobs"]["tokens"]).strip() == TEXT
    assert ask(server, max_tokens=0).status == 400


def test_the_openai_client_streams_what_it_gets_whole(server: Server) -> None:
    with openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client:
        fields: Any = {"model": "tiny", "prompt": TEXT, "temperature": 0, "max_tokens": 8}
        whole = client.completions.create(**fields, echo=True)
        parts = client.completions.create(**fields, echo=True, stream=True)
        assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
        assert whole.choices[0].text.startswith(TEXT)


def test_answers_to_several_prompts_are_numbered_prompt_by_prompt(server: Server) -> None:
    both = ask(server, prompt=[TEXT, "The rust is"], n=2, temperature=1, seed=3).json["choices"]
    assert [choice["index"] for choice in both] == [0, 1, 2, 3]
    alone = ask(server, prompt="The rust is", n=2, temperature=1, seed=3).json["choices"]
    assert [one["text"] for one in both[2:]] == [one["text"] for one in alone]


@pytest.mark.parametrize("prompt", ["", [], [""], [[]], [99999], [["a"]], [1.5], [[True]]])
def test_a_prompt_that_is_none_is_refused(server: Server, prompt: Any) -> None:
    made = ask(server, prompt=prompt)
    assert made.status == 400
    assert made.json["error"]["param"] == "prompt"


def test_stop_tokens_ends_and_cuts_are_those_that_are_asked_for(server: Server) -> None:
    def tokens(**fields: Any) -> list[int]:
        made = ask(server, return_token_ids=True, **fields).json["choices"][0]
        found: list[int] = made["token_ids"]
        return found

    on = {"max_tokens": 8, "ignore_eos": True}
    plain = tokens(**on)
    assert len(plain) == 8
    assert tokens(**on, stop_token_ids=[plain[2]]) == plain[: plain.index(plain[2]) + 1]
    (end,) = server.served.stop_ids
    soon = {"logit_bias": {str(end): 100}}
    assert tokens(max_tokens=8, **soon) == [end]
    assert tokens(max_tokens=3, ignore_eos=True, **soon) == [end] * 3
    assert end not in (made := tokens(max_tokens=8, min_tokens=5, **soon))[:5]
    assert made[5:] == [end]
    drawn = {**on, "temperature": 2, "seed": 5}
    assert tokens(**drawn, top_k=1) == tokens(**drawn, min_p=1) == plain
    assert tokens(**drawn) != plain
