"""Personal data and keys: what is found, what is left alone, and how it is named."""

import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.collect.redact import CHOICES, KINDS, iban, luhn, redact_row


def redacted(*texts: str, kinds: tuple[str, ...] = CHOICES) -> tuple[list[str], dict[str, int]]:
    counts: dict[str, int] = {}
    turns = [{"role": "user", "content": text} for text in texts]
    made, _ = redact_row(turns, None, kinds, counts)
    return [turn["content"] for turn in made], counts


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "a.b+c@ex-ample.co.uk"),
        ("email", "jürgen@example.org"),
        ("phone", "+49 30 1234567"),
        ("phone", "0049 30 1234567"),
        ("phone", "(030) 1234 5678"),
        ("phone", "0171/1234567"),
        ("phone", "020 7946 0958"),
        ("phone", "01 23 45 67 89"),
        ("phone", "415-555-2671"),
        ("phone", "+1 (415) 555-2671"),
        ("ip", "192.168.0.1"),
        ("ip", "2001:db8::1"),
        ("ip", "fe80::1ff:fe23:4567:890a"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "378282246310005"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("key", "sk-proj-abcdefghijklmnopqrstuvwx"),
        ("key", "sk-ant-api03-abcdefghijklmnop_qrst"),
        ("key", "sk-lf-22b46cb9-5a7c-40fb-86a2-5ae3bf4eda37"),
        ("key", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
        ("key", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("key", "hf_abcdefghijklmnopqrstuvwxyzabcdef"),
        ("key", "xoxb-123456789012-abcdefghijkl"),
        ("key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"),
        ("key", "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc+/=\n-----END RSA PRIVATE KEY-----"),
    ],
)
def test_each_known_form_becomes_a_placeholder_and_is_counted(kind: str, value: str) -> None:
    mark = f"<{kind.upper()}_1>"
    assert redacted(f"It is {value}, I think.") == ([f"It is {mark}, I think."], {kind: 1})
    others = tuple(other for other in CHOICES if other != kind)
    if kind not in ("card", "iban"):  # whose digits may look like a phone number's
        assert redacted(f"It is {value}, I think.", kinds=others)[1] == {}


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-05-01 12:30:45, 01-05-2024, 1.5.2024 and 12/31/2024 10:00.",
        "It costs 1,000,000 or 3.14159; the years 1999-2004; 2023 2024 2025; at 16:9.",
        "Order 48213-77, number 1234567890, version 10.2.3, stamp 1700000000000.",
        "10.0.0.256 and 1.2.3.4.5 are no addresses, nor are 12:34:56, std::vector and a::b.",
        "4111 1111 1111 1112 and DE89370400440532013001 have wrong check digits.",
        "risk-averse-people-and-their-tasks; task-abcdefghijklmnopqrstuvwxyz; foo@bar",
    ],
)
def test_what_only_looks_similar_is_left_alone(text: str) -> None:
    assert redacted(text) == ([text], {})


def test_the_same_value_keeps_its_placeholder_within_a_row_and_only_there() -> None:
    question = "Write to Ann@x.org and bob@x.org, call +49 30 1234567."
    answer = "Done: bob@x.org and ann@X.org; rang +49301234567."
    assert redacted(question, answer) == (
        [
            "Write to <EMAIL_1> and <EMAIL_2>, call <PHONE_1>.",
            "Done: <EMAIL_2> and <EMAIL_1>; rang <PHONE_1>.",
        ],
        {"email": 4, "phone": 2},
    )
    assert redacted(answer)[0] == ["Done: <EMAIL_1> and <EMAIL_2>; rang <PHONE_1>."]


def test_an_iban_ends_where_its_country_says() -> None:
    assert redacted("DE89 3704 0044 0532 0130 00 AND MORE")[0] == ["<IBAN_1> AND MORE"]
    assert iban("DE89 3704 0044 0532 0130 00 AND MORE") == 27
    assert iban("XX89370400440532013000") == 0


def test_one_wrong_digit_breaks_luhns_check() -> None:
    good = "4111111111111111"
    assert luhn(good)
    assert not any(
        luhn(good[:place] + str((int(good[place]) + 1) % 10) + good[place + 1 :])
        for place in range(len(good))
    )


@pytest.mark.parametrize(
    "piece", ["a", "1", "a.", "1 ", "1.", "(0", "A1 ", "a@", "ab:", "sk-", "+"]
)
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    assert redacted(piece * 100_000)[0]


@given(st.lists(st.sampled_from(["DE", "89", "0", "4532", "A", "é", " ", ".", "-", "(", ":", "@"])))
@settings(max_examples=300)
def test_what_the_quick_look_passes_over_holds_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    for kind in KINDS.values():
        found = (match for match in kind.pattern.finditer(text) if kind.length(match[0]))
        assert kind.may_hold(text) or next(found, None) is None


def test_rows_leave_nothing_that_only_the_collector_of_cycles_would_free() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            assert redacted("write to a.b@example.org")[1] == {"email": 1}
        assert gc.collect() < 200
    finally:
        gc.enable()
