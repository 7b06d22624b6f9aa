"""What a look found, for people and for Prometheus; neither holds a text of anybody's."""

from html import escape

from understudy.watch.watch import WatchLook, to_dict

_STYLE = """
body { margin: 0 auto; max-width: 52rem; padding: 2rem 1.25rem 4rem; color: #1f2328;
  font: 16px/1.5 system-ui, sans-serif; }
h1 b { padding: 0 .4em; border-radius: 6px; color: #fff; }
.OK { background: #1a7f37; } .ALARM { background: #b3261e; } .EARLY { background: #656d76; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid #d8dbde; text-align: left; }
svg { display: block; width: 100%; height: 14rem; background: #f6f8fa; }
.muted { color: #656d76; } tr.change td { font-weight: 600; }
"""
_WIDTH, _HEIGHT, _POINTS = 800, 220, 400


def sentence(look: WatchLook) -> str:
    """The verdict in one line."""
    values = to_dict(look)
    said = f"{values['what']}: nothing judged yet"
    if values["mean"] is not None:
        limits = f"[{values['low']:+.1f}, {values['high']:+.1f}]"
        said = (
            f"{values['what']}: {values['mean']:+.1f} points {limits} over {values['judged']:,} "
            f"answers, floor {values['floor']:+.1f}"
        )
    if look.found.word == "ALARM":
        said += f"; it fell after about {values['fell_after']:,} of them"
    return f"{look.found.word}. {said}."


def metrics(look: WatchLook) -> str:
    """For the textfile collector: gauges in Prometheus' text format."""
    values, name = to_dict(look), "understudy_watch"
    numbers = {
        "alarm": float(look.found.word == "ALARM"), "ok": float(look.found.word == "OK"),
        **{key: values[key] for key in ("mean", "low", "high", "floor", "log_evidence")},
        **{key: values[key] for key in ("judged", "unscored", "sampled", "spent_usd", "bad")},
    }  # fmt: skip
    run = look.run.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for key, value in numbers.items():
        if value is not None:
            lines += [f"# TYPE {name}_{key} gauge", f'{name}_{key}{{run="{run}"}} {value:g}']
    lines.append(f"# TYPE {name}_drift gauge")
    lines += [
        f'{name}_drift{{run="{run}",what="{one.what}"}} {one.distance:g}' for one in look.drift
    ]
    return "\n".join(lines) + "\n"


def page(look: WatchLook) -> str:
    """One self-contained page."""
    values = to_dict(look)
    word = look.found.word
    rows = "".join(
        f"<tr{' class=change' if one.is_change else ''}><td>{escape(one.what)}</td>"
        f"<td>{escape(one.before)}</td><td>{escape(one.now)}</td><td>{one.distance:.2f}</td>"
        f"<td>{one.p:.2g}</td></tr>"
        for one in look.drift
    )
    facts = {
        "answers sampled": f"{look.sampled:,}", "judged": f"{len(look.rows):,}",
        "without a score": f"{look.unscored:,}", "spent": f"${look.spent_usd:,.4f}",
        "watched since": look.since or "the file's first row",
        "below the floor since the fall": f"{len(look.bad):,}",
        "evidence of a fall": f"{min(look.found.log_evidence, 700.0):.1f} (alarm at "
        f"{-_log(look.alpha):.1f}, natural log)",
        **{f"left out: {why}": f"{count:,}" for why, count in look.skipped.items()},
    }  # fmt: skip
    table = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in facts.items())
    banner = "<p>REHEARSAL: stand-ins judged, no LLM.</p>" if look.is_rehearsal else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">
<title>understudy watch: {word}</title><style>{_STYLE}</style></head><body>
<h1>{escape(look.run)} <b class="{word.split()[-1]}">{word}</b></h1>{banner}
<p>{escape(sentence(look))}</p>
<p class="muted">The running mean with its {1 - look.alpha:.0%} confidence sequence, which holds at
every answer; dashed: the floor, {values["floor"]:+.1f} points.</p>
{_chart(look)}<h2>What it rests on</h2><table>{table}</table>
<h2>Drift</h2><p class="muted">Hints, never an alarm; bold: p &lt; .001 and large.</p>
<table><tr><th>what</th><th>at the migration</th><th>now</th><th>distance</th><th>p</th></tr>
{rows}</table></body></html>
"""


def _log(value: float) -> float:
    from math import log

    return log(value)


def _chart(look: WatchLook) -> str:
    """The mean and its limits as SVG; the scale is what the mean and the floor need."""
    path, floor = look.found.path, look.promise.scaled(look.promise.floor)
    count = len(path.mean)
    if count < 2:
        return ""
    step = max(1, count // _POINTS)
    places = range(0, count, step)
    ends = (floor, float(path.low[-1]), float(path.high[-1]), float(path.mean.min()))
    low, high = min(ends) - 0.02, max(*ends, float(path.mean.max())) + 0.02

    def at(n: int, value: float) -> str:
        y = (high - min(max(value, low), high)) / (high - low) * _HEIGHT
        return f"{n / (count - 1) * _WIDTH:.1f},{y:.1f}"

    band = [at(n, float(path.high[n])) for n in places]
    band += [at(n, float(path.low[n])) for n in reversed(places)]
    mean = " ".join(at(n, float(path.mean[n])) for n in places)
    left, right = at(0, floor).split(","), at(count - 1, floor).split(",")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
        f'<polygon points="{" ".join(band)}" fill="#0173b2" opacity=".2"/>'
        f'<polyline points="{mean}" fill="none" stroke="#0173b2" stroke-width="2"/>'
        f'<line x1="{left[0]}" y1="{left[1]}" x2="{right[0]}" y2="{right[1]}" stroke="#b3261e" '
        'stroke-dasharray="6 4"/></svg>'
    )
