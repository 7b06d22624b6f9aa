"""The gateway's page, in a headless Chromium: what a person sees."""

from pathlib import Path

import pytest

from support import chromium
from support.gateways import Running, ask, gateway, service, stage, until

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


def show(tab: chromium.Tab, running: Running, tmp_path: Path, *, dark: bool) -> None:
    """Open the page as it was served; the browser has no network."""
    page = tmp_path / "page.html"
    page.write_bytes(running.get("/").content)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    tab.call("Emulation.setEmulatedMedia", features=[scheme])
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=390 if dark else 1200, height=900, deviceScaleFactor=1, mobile=dark,
    )  # fmt: skip
    tab.errors.clear()
    tab.requests.clear()
    tab.call("Page.navigate", url=page.as_uri())
    tab.wait("document.readyState === 'complete' && !!document.querySelector('#mode')")


def text(tab: chromium.Tab, selector: str) -> str:
    found: str = tab.value(f"document.querySelector('{selector}').textContent")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_a_person_sees_traffic_errors_spend_and_agreement(
    tab: chromium.Tab, tmp_path: Path, dark: bool
) -> None:
    with (
        stage(text="It is 42, I think.") as star,
        stage(text="It is 42.") as small,
        gateway(
            tmp_path, star.url, of=service(name=HOSTILE), mode="shadow", local=small.url,
            local_model=HOSTILE, usd_per_day=5.0,
        ) as running,
    ):  # fmt: skip
        for number in range(3):
            running.post(ask(f"n {number}"))
        until(lambda: running.state.numbers.shadows["pairs"] == 3)
        control = running.state.live.control
        running.state.live.control = type(control)(mode="failover", locals=control.locals)
        star.status = 500
        running.post()
        star.status = 400
        running.post()
        show(tab, running, tmp_path, dark=dark)
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [
        (tmp_path / "page.html").as_uri()
    ]
    assert tab.value("document.title") == "understudy gateway: failover"
    assert tab.value("document.querySelectorAll('img, script').length") == 0
    assert HOSTILE in text(tab, "#local")
    assert text(tab, "#mode") == "failover"
    assert text(tab, "#requests b") == "5"
    assert text(tab, "#errors b") == "20.00%"
    assert text(tab, "#spend b") == "$0.0090"
    assert "of $5.00 a day" in text(tab, "#spend")
    assert text(tab, "#agreement b") == "0.75"
    assert "3 pairs" in text(tab, "#agreement")
    assert "service: 500" in text(tab, "#wrong")
    shares = [
        tab.value(f"document.querySelector('#split .{side}').getBoundingClientRect().width")
        for side in ("service", "local")
    ]
    assert shares[0] / shares[1] == pytest.approx(4, rel=0.05)
    assert tab.value("document.querySelectorAll('svg rect').length") >= 2
    ink, paper = (
        tab.value(f"getComputedStyle(document.body).{part}.match(/\\d+/)[0] | 0")
        for part in ("color", "backgroundColor")
    )
    assert (ink > paper) == dark
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert tab.value(wide)


def test_the_page_of_a_gateway_that_has_done_nothing_says_so(tmp_path: Path) -> None:
    with stage() as star, gateway(tmp_path, star.url) as running:
        reply = running.get("/")
        assert reply.status_code == 200
        assert "No request yet." in reply.text
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "<script" not in reply.text


def test_metrics_are_prometheus_s(tmp_path: Path) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with stage() as star, gateway(tmp_path, star.url) as running:
        running.post()
        running.post(b"{")
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(running.get("/metrics").text)
            for sample in family.samples
        }
    name = "understudy_gateway_requests_total"
    labels = (("by", "service"), ("mode", "record"), ("status", "200"))
    assert found[name, labels] == 1
    assert found[name, (("by", "gateway"), ("mode", "none"), ("status", "400"))] == 1
    assert found["understudy_gateway_spent_usd_total", ()] == pytest.approx(0.003)
    assert found["understudy_gateway_in_flight", ()] == 0
