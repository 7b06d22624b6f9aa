"""What calls cost, to the micro-dollar, and what a purse lets through."""

import asyncio
import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import paid
from understudy.config import Prices
from understudy.errors import BadInput
from understudy.services import money
from understudy.services.base import Request, Usage
from understudy.services.journal import Journal
from understudy.services.money import Purse

TOKENS = st.integers(0, 10**7)
PRICE = st.decimals(0, 500, places=4)


@given(TOKENS, TOKENS, TOKENS, PRICE, PRICE, st.none() | PRICE, st.none() | st.sampled_from([0.5]))
def test_a_cost_is_the_exact_decimal_sum_rounded_up(
    fresh: int,
    cached: int,
    output: int,
    input_price: Decimal,
    output_price: Decimal,
    cached_price: Decimal | None,
    batch: float | None,
) -> None:
    prices = Prices(
        float(input_price),
        float(output_price),
        date="2026-11-21",
        source="test",
        cached=None if cached_price is None else float(cached_price),
        batch=batch,
    )
    usage = Usage(input=fresh + cached, cached=cached, output=output)
    read = input_price if cached_price is None else cached_price
    exact = fresh * input_price + cached * read + output * output_price
    assert money.cost(usage, prices) == math.ceil(exact)
    if batch is not None:
        assert money.cost(usage, prices, "batch") == math.ceil(exact / 2)


def test_a_price_is_the_decimal_that_the_file_says() -> None:
    prices = Prices(0.1, 0.3, date="2026-11-21", source="test")
    assert money.cost(Usage(input=10, output=10), prices) == 4  # floats would give 5
    assert money.cost(Usage(input=3_000_000), prices) == 300_000


def test_reasoning_tokens_are_billed_once_as_part_of_the_output() -> None:
    assert money.cost(Usage(output=50, reasoning=40), paid.PRICES) == 500


def test_tokens_written_to_the_cache_have_their_own_price_and_a_reservation_covers_them() -> None:
    prices = replace(paid.PRICES, written=3.125)
    assert money.cost(Usage(input=100, output=20, written=40), prices) == 150 + 125 + 200
    (request,) = paid.requests(1)
    dear, plain = (paid.service(prices=p, max_output_tokens=1) for p in (prices, paid.PRICES))
    most = money.most_input(request)
    assert money.bound(request, dear) - money.bound(request, plain) == math.ceil(0.625 * most)


@given(st.text(max_size=400), st.integers(1, 5))
def test_a_reservation_covers_every_byte_every_message_and_the_whole_output(
    text: str, count: int
) -> None:
    messages = tuple({"role": "user", "content": text} for _ in range(count))
    bound = money.bound(Request(messages), paid.service())
    size = count * len(text.encode("utf-8", "surrogatepass"))
    assert bound >= money.cost(Usage(input=size, output=100), paid.PRICES)
    schema = {"type": "object", "title": text}
    assert money.bound(Request(messages, schema=schema), paid.service()) > bound


def test_a_service_without_prices_reserves_nothing() -> None:
    assert money.bound(paid.requests(1)[0], paid.service(prices=None)) == 0


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), max_size=60), st.integers(0, 200))
def test_a_purse_never_passes_its_cap_whatever_the_order(
    calls: list[tuple[int, float]], cap: int
) -> None:
    purse = Purse(spent=0, cap=cap)
    refused = []

    async def call(amount: int, share: float) -> None:
        if not await purse.reserve(amount):
            refused.append(amount)
            return
        assert purse.spent + purse.reserved <= cap
        await asyncio.sleep(0)
        purse.settle(amount, int(amount * share))

    async def all_calls() -> None:
        await asyncio.gather(*(call(*one) for one in calls))

    asyncio.run(all_calls())
    assert purse.reserved == 0
    assert purse.spent <= cap
    assert all(purse.spent + amount > cap for amount in refused[:1])


def test_a_reservation_waits_for_what_others_give_back() -> None:
    async def story() -> list[str]:
        purse, seen = Purse(spent=0, cap=10), []
        assert await purse.reserve(8)

        async def second() -> None:
            seen.append("asked")
            assert await purse.reserve(5)
            seen.append("granted")

        task = asyncio.create_task(second())
        await asyncio.sleep(0)
        seen.append("settled")
        purse.settle(8, 3)
        await task
        return seen

    assert asyncio.run(story()) == ["asked", "settled", "granted"]


def test_the_last_one_out_tells_those_who_wait_in_vain() -> None:
    async def story() -> bool:
        purse = Purse(spent=0, cap=10)
        assert await purse.reserve(8)
        waiting = asyncio.create_task(purse.reserve(9))
        await asyncio.sleep(0)
        purse.settle(8, 8)
        return await waiting

    assert asyncio.run(story()) is False


def test_an_account_with_a_budget_refuses_a_service_without_prices() -> None:
    account = paid.account(Path("nowhere"), budget_usd=0.5)
    with pytest.raises(BadInput, match="service paid has no prices"):
        account.open_purse(paid.service(prices=None), Journal(Path("nowhere")))
