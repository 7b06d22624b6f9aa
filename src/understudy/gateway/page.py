"""The page that a person reads: traffic, errors, spend, shadow agreement; no script, no request."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from understudy.gateway import verdict
from understudy.gateway.latency import QUANTILES
from understudy.gateway.numbers import Minute
from understudy.gateway.pairs import Compared, compared
from understudy.gateway.state import GatewayState
from understudy.gateway.verdict import DecidedShadow

_STYLE = """
:root { --paper: #fff; --ink: #1f2328; --muted: #656d76; --line: #d8dbde; --panel: #f6f8fa;
  --service: #0173b2; --local: #c9590a; --nobody: #656d76; --banner: #fff3c4; --warn: #5c4400; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e3e6e9; --muted: #98a1aa; --line: #3a4046; --panel: #1d2125;
    --service: #6cb6f5; --local: #f0a63e; --nobody: #98a1aa; --banner: #463800; --warn: #ffe28a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.15rem; }
p { margin: .3rem 0; } .muted { color: var(--muted); font-size: .9rem; }
.banner { margin: 1rem 0; padding: .6rem 1rem; border-radius: 6px; background: var(--banner);
  color: var(--warn); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem;
  margin-top: 1.2rem; }
.tile { padding: .7rem .9rem; border-radius: 6px; background: var(--panel); }
.tile b { display: block; font-size: 1.45rem; line-height: 1.3; overflow-wrap: anywhere; }
.tile span { color: var(--muted); font-size: .85rem; }
.split { display: flex; height: 1.4rem; border-radius: 4px; overflow: hidden; gap: 2px;
  background: var(--panel); }
.service { background: var(--service); fill: var(--service); }
.local { background: var(--local); fill: var(--local); }
.nobody { background: var(--nobody); fill: var(--nobody); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .3em; }
.key span { margin-right: 1.2rem; white-space: nowrap; }
svg { display: block; width: 100%; height: 7rem; } svg line { stroke: var(--line); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; }
td.n, th.n { text-align: right; } .wide { overflow-x: auto; }
"""
_SIDES = (("service", "the service"), ("local", "the local model"), ("nobody", "nobody"))
_MODES = {
    "record": "every answer is the service's; they are kept for <code>collect</code>",
    "shadow": "every answer is the service's; the local model is asked too, for judging",
    "route": "a trained router picks who answers; the other stands in when one fails",
    "failover": "the service answers; when it fails, the local model does",
    "local": "every answer is the local model's; the service is never asked",
}


async def shown(state: GatewayState) -> str:
    """Return the page as HTML; what takes long to compute holds no request up."""
    pairs = state.numbers.pairs.copy()
    found = await asyncio.to_thread(compared, pairs) if pairs else []
    judged = await asyncio.to_thread(verdict.of, state.directory) if pairs else None
    return render(state, found, judged)


def render(
    state: GatewayState, pairs: Sequence[Compared] = (), judged: DecidedShadow | None = None
) -> str:
    """The page as HTML."""
    control, numbers, live = state.live.control, state.numbers, state.live
    mode = control.mode
    about = _MODES.get(mode) or f"{control.share:g} % of the conversations go to the local model"
    warnings = [
        "REHEARSAL: a stand-in plays the service, no LLM answers"
        if state.service.rehearsal
        else "",
        f"The control file is not in force: {live.problem}" if live.problem else "",
        f"{numbers.unwritten:,} log lines could not be written" if numbers.unwritten else "",
        *(f"{name} has failed several times in a row" for name in state.open_breakers()),
        *state.notes,
    ]
    banners = "".join(f'<p class="banner">{escape(text)}</p>' for text in warnings if text)
    local = (
        f"{control.local.model or 'first model'} at {control.local.url}"
        if control.local
        else "none"
    )
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(numbers.started))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>understudy gateway: {mode}</title>
<style>{_STYLE}</style></head><body>
<h1>Gateway in mode <em id="mode">{mode}</em></h1>
<p>{about}.</p>
<p class="muted">{_services(state)} ·
local model: <span id="local">{escape(local)}</span> · counted since {since} UTC</p>
{banners}{_tiles(state, pairs)}
<h2>Who answered</h2>{_split(numbers.by)}
<h2>The last hour, requests per minute</h2>{_history(numbers.minutes)}
{_shadows(state, pairs, judged)}
{_latency(state)}
<h2>What went wrong</h2>{_errors(state)}
{_callers(state)}{_others(state)}
</body></html>
"""


def _services(state: GatewayState) -> str:
    """Who is asked, in turn."""
    config, main = state.config, state.service
    said = f"Service: {escape(main.name)} ({escape(main.model)})"
    more = [f"{name} ({one.model})" for name, one in config.services.items()]
    said += f", also {escape(', '.join(more))}" if more else ""
    return said + (f"; when it fails: {escape(', '.join(config.fallback))}" * bool(config.fallback))


def _tiles(state: GatewayState, compared_: Sequence[Compared]) -> str:
    numbers, spend = state.numbers, state.spend
    total, errors = numbers.total, numbers.errors
    money = f"${spend.spent / 1e6:,.4f}"
    cap = "no cap" if spend.cap is None else f"of ${spend.cap / 1e6:,.2f} a day"
    if spend.bounded:
        cap = f"${spend.bounded / 1e6:,.4f} of it at most: those calls said no usage; {cap}"
    if state.service.prices is None:
        money, cap = "–", "the service has no prices"
    agreement = "–", "no shadow pairs yet"
    if compared_:
        first = compared_[0]
        agreement = (
            f"{first.agreement.mean or 0.0:.2f}",
            f"shadow agreement: ROUGE-L of {first.pairs:,} pairs, {first.equal:,} equal",
        )
    tiles = (
        ("requests", f"{total:,}", f"requests, {numbers.in_flight:,} in flight"),
        ("errors", f"{errors / total:.2%}" if total else "–", f"{errors:,} failed or broke off"),
        (
            "failovers",
            f"{sum(numbers.failovers.values()):,}",
            "failures, of which another took over what it could",
        ),
        ("spend", money, f"today (UTC), {cap}"),
        ("agreement", *agreement),
    )
    made = (
        f'<div class="tile" id="{name}"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for name, value, what in tiles
    )
    return f'<div class="tiles">{"".join(made)}</div>'


def _split(by: dict[str, int]) -> str:
    total = sum(by.values())
    if not total:
        return '<p class="muted">No request yet.</p>'
    bars = "".join(
        f'<div class="{side}" style="flex: {by[side]}"></div>' for side, _ in _SIDES if by.get(side)
    )
    key = "".join(
        f'<span><i class="{side}"></i>{name}: {by[side]:,} ({by[side] / total:.1%})</span>'
        for side, name in _SIDES
        if by.get(side)
    )
    return f'<div class="split" id="split">{bars}</div><p class="key muted">{key}</p>'


def _history(minutes: Iterable[Minute]) -> str:
    """A stacked bar per minute, the newest at the right."""
    known = {minute.number: minute.by for minute in minutes}
    now = int(time.time() // 60)
    most = max((sum(by.values()) for by in known.values()), default=0)
    if not most:
        return '<p class="muted">No request yet.</p>'
    bars = []
    for place, number in enumerate(range(now - 59, now + 1)):
        base = 100.0
        for side, _ in _SIDES:
            height = known.get(number, Counter())[side] / most * 96
            base -= height
            if height:
                bars.append(
                    f'<rect class="{side}" x="{place * 10}" y="{base:.2f}" width="8.5" '
                    f'height="{height:.2f}"/>'
                )
    label = f"requests per minute in the last hour, {most:,} at most"
    return (
        f'<svg viewBox="0 0 600 100" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'{"".join(bars)}<line x1="0" x2="600" y1="100" y2="100"/></svg>'
        f'<p class="muted">at most {most:,} in a minute</p>'
    )


def _shadows(state: GatewayState, pairs: Sequence[Compared], judged: DecidedShadow | None) -> str:
    """What the shadows show, by local model and by what prompts are about."""
    if not pairs:
        return ""
    rows = ""
    for one in pairs:
        name = one.generator if one.topic is None else f"– {one.topic}"
        low, high = one.agreement.low, one.agreement.high
        limits = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
        cells = (
            f"{one.pairs:,}",
            f"{one.agreement.mean or 0.0:.2f}{limits}",
            "–" if one.local_usd is None else f"${1000 * one.local_usd:,.3f}",
            f"${1000 * one.service_usd:,.3f}" if state.service.prices is not None else "–",
        )
        numbers = "".join(f"<td class=n>{cell}</td>" for cell in cells)
        rows += f"<tr><td>{escape(name)}</td>{numbers}</tr>"
    heads = ("pairs", "agreement", "its 1,000 answers", "the service's")
    head = "".join(f"<th class=n>{text}</th>" for text in heads)
    counts = state.numbers.shadows
    said = f"{counts['skipped']:,} were skipped, as the queue of {state.config.shadow_queue:,} was "
    said += f"full; {counts['no text']:,} were no text. Agreement is with what clients were "
    said += (
        "answered (ROUGE-L, by users and conversations), which says where to look: judges decide."
    )
    found = "" if judged is None else f'<p id="judged">{escape(judged.sentence)}</p>'
    table = f'<div class="wide"><table id=shadows><tr><th>of</th>{head}</tr>{rows}</table></div>'
    return f'<h2>Shadows</h2>{found}{table}<p class="muted">{said}</p>'


def _latency(state: GatewayState) -> str:
    """How long the answers took."""
    took = state.numbers.latencies.took()
    if not took:
        return ""
    heads = "".join(
        f"<th class=n>p{100 * q:g} {of}</th>" for of in ("first byte", "whole") for q in QUANTILES
    )
    rows = "".join(
        f"<tr><td>{name}</td><td class=n>{took[side].calls:,}</td>"
        + "".join(f"<td class=n>{_time(s)}</td>" for s in (*took[side].first, *took[side].whole))
        + "</tr>"
        for side, name in _SIDES
        if side in took
    )
    return (
        f'<h2>How long the last answers took</h2><div class="wide"><table id=latency>'
        f"<tr><th>by</th><th class=n>answers</th>{heads}</tr>{rows}</table></div>"
    )


def _time(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def _callers(state: GatewayState) -> str:
    """Those with keys of their own."""
    rows = ""
    for caller in state.callers.all:
        purse, rate = state.spend.of(caller.name), caller.limits.requests_per_minute
        spent = 0 if purse is None else purse.spent
        cap = caller.limits.usd_per_day
        cells = (
            f"{caller.requests:,}",
            "–" if rate is None else f"{rate:,}",
            f"{caller.refused:,}",
            f"${spent / 1e6:,.4f}",
            "–" if cap is None else f"${cap:,.2f}",
        )
        numbers = "".join(f"<td class=n>{cell}</td>" for cell in cells)
        rows += f"<tr><td>{escape(caller.name)}</td>{numbers}</tr>"
    heads = ("requests", "a minute at most", "refused for it", "spent today", "a day at most")
    head = "".join(f"<th class=n>{text}</th>" for text in heads)
    table = f'<div class="wide"><table id=callers><tr><th>key</th>{head}</tr>{rows}</table></div>'
    return f"<h2>Who asked</h2>{table}" if rows else ""


def _others(state: GatewayState) -> str:
    """The calls that are no chat completions."""
    numbers = state.numbers
    if not numbers.others:
        return ""
    rows = numbers.others.most_common(20)
    cells = "".join(f"<tr><td>{escape(what)}</td><td class=n>{n:,}</td></tr>" for what, n in rows)
    return (
        "<h2>Passed through untouched</h2>"
        f'<p class="muted">{numbers.unpriced:,} of these have no price here, so the spend is '
        "without them.</p>"
        f"<table id=others><tr><th>path</th><th class=n>times</th></tr>{cells}</table>"
    )


def _errors(state: GatewayState) -> str:
    numbers = state.numbers
    rows: Sequence[tuple[str, int]] = [
        *((f"{who}: {why}", n) for (who, why), n in numbers.failovers.most_common(12)),
        *(
            (f"answered with status {status}", n)
            for status, n in sorted(numbers.statuses.items())
            if status >= 400 and status != 499
        ),
        *([("answers that broke off", numbers.broken)] if numbers.broken else []),
        *([("clients that left early", numbers.gone)] if numbers.gone else []),
        *((f"shadows: {why}", n) for why, n in numbers.shadows.items() if why != "pairs"),
    ]
    if not rows:
        return '<p class="muted">Nothing.</p>'
    cells = "".join(f"<tr><td>{escape(what)}</td><td class=n>{n:,}</td></tr>" for what, n in rows)
    return f"<table id=wrong><tr><th>what</th><th class=n>times</th></tr>{cells}</table>"
