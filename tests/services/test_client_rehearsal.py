"""The client over the real SDKs, against the loopback server and its faults."""

from pathlib import Path

import pytest

from support import paid
from support.books import check_books, drain
from understudy.errors import BadInput, BudgetSpent
from understudy.rehearsal.server import RehearsalServer
from understudy.services.base import Request
from understudy.services.client import ask
from understudy.services.journal import open_journal

PROVIDERS = ["openai", "anthropic", "google", "openai_compatible"]


def requests(count: int) -> list[Request]:
    """Calls that differ on the wire, where no index is sent."""
    return [Request(({"role": "user", "content": f"Say {n}."},)) for n in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("provider", PROVIDERS)
def test_with_30_percent_faults_every_item_ends_and_the_ledger_is_the_bill(
    provider: str, tmp_path: Path
) -> None:
    model = f"{provider}-test"
    with RehearsalServer(
        faults="all=0.3", prices={model: paid.PRICES}, retry_after_s=0.05, drip_s=0.1
    ) as server:
        account = paid.account(tmp_path, rehearsal_url=server.url)
        service = paid.service(provider=provider, model=model, timeout_s=1.0, concurrency=32)
        arrived, error = drain(ask(service, requests(150), account))
        assert error is None
        assert sorted(n for n, _ in arrived) == list(range(150))
        assert "error" not in {reply.finish for _, reply in arrived}
        with open_journal(tmp_path / "journal") as journal:
            (total,) = journal.totals()
        assert total.microusd == account.counts["microusd"] == server.bill().microusd > 0
        assert total.calls == len(server.log) == 150
        assert len({charge.body for charge in server.log}) == 150  # none was billed twice
        assert total.uncertain_calls == account.counts["uncertain"] > 0
        check_books(tmp_path, account)


@pytest.mark.slow
def test_a_budget_holds_on_the_servers_bill_with_128_in_flight(tmp_path: Path) -> None:
    prices = {"gpt-test": paid.PRICES}
    with RehearsalServer(prices=prices, latency_s=0.05) as server:
        account = paid.account(tmp_path, rehearsal_url=server.url, budget_usd=0.05)
        service = paid.service(concurrency=128)
        arrived, error = drain(ask(service, requests(600), account))
        assert isinstance(error, BudgetSpent)
        assert 0 < server.bill().microusd == account.spent <= 50_000
        assert len(arrived) == len(server.log)


@pytest.mark.slow
def test_limits_told_by_headers_hold_and_a_burst_is_one_cut(tmp_path: Path) -> None:
    with RehearsalServer(requests_per_minute=1200, window_s=1.0) as server:
        account = paid.account(tmp_path, rehearsal_url=server.url)
        service = paid.service(concurrency=64, prices=None)
        arrived, error = drain(ask(service, requests(80), account))
        assert (error, len(arrived), len(server.log)) == (None, 80, 80)
        assert 0 < account.counts["busy"] <= 64
        assert 1 <= account.counts["cuts"] <= 3


def test_a_refused_key_ends_in_one_sentence(tmp_path: Path) -> None:
    with RehearsalServer(faults="401=1") as server:
        account = paid.account(tmp_path, rehearsal_url=server.url)
        arrived, error = drain(ask(paid.service(), requests(40), account))
    assert arrived == []
    assert isinstance(error, BadInput)
    assert "refused" in str(error)
    assert "\n" not in str(error)
