"""The verb `preview`: the first calls of a synthetic pool, before the run pays for the rest."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.plan.preview import Preview, Sample

_HELP = "ask the teacher the first few prompts of a run: what comes back, and what it costs"
_DETAIL = "The run finds these calls in the journal and does not pay for them again."


def register(verbs: Any) -> None:
    """Add `preview` to the verbs."""
    sub = verbs.add_parser("preview", help=_HELP, description=f"{_HELP}. {_DETAIL}")
    sub.set_defaults(verb=_preview)
    sub.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for `understudy run`")
    sub.add_argument("--config-dir", metavar="DIR", help="a directory with options of your own")
    sub.add_argument("--calls", type=int, default=5, metavar="N", help="default: %(default)s")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _preview(arguments: argparse.Namespace) -> None:
    from understudy import config
    from understudy.config import compose
    from understudy.plan import preview

    if arguments.calls < 1:
        raise BadInput(f"--calls={arguments.calls} asks nothing; give 1 or more")
    composed = config.build(compose.compose(arguments.overrides, arguments.config_dir))
    made = preview.preview(composed, arguments.calls)
    for notice in made.notices:
        print(notice, file=sys.stderr)
    if arguments.json:
        print(json.dumps({"rehearsal": composed.is_rehearsal, **_plain(made)}, indent=1))
        return
    for number, sample in enumerate(made.samples):
        print(_text(number, sample))
    print(_closing(made, max(composed.sizes)))
    if composed.is_rehearsal:
        print("rehearsal: stand-ins were asked, no LLM")


def _plain(made: "Preview") -> dict[str, Any]:
    fields = ("instruction", "response", "refused")
    return {
        "paid_usd": made.paid_usd,
        "usd_per_row": made.usd_per_row,
        "calls": [
            {
                "prompt": sample.prompt,
                "finish": sample.reply.finish,
                "pairs": [dict(zip(fields, pair, strict=True)) for pair in sample.pairs],
                "unread": sample.unread,
                "usd": sample.usd,
            }
            for sample in made.samples
        ],
    }


def _text(number: int, sample: "Sample") -> str:
    lines = [f"══ call {number} ══", sample.prompt, ""]
    for index, (instruction, response, why) in enumerate(sample.pairs):
        verdict = "accepted" if why is None else f"refused: {why}"
        lines += [f"── pair {index}: {verdict}", instruction, "→", response, ""]
    if sample.reply.finish != "stop":
        lines += [f"── no pairs ({sample.reply.finish}): {sample.reply.text}", ""]
    elif sample.unread:
        reasons = ", ".join(f"{count} {why}" for why, count in sample.unread.items())
        lines += [f"── not read: {reasons}", ""]
    if sample.reply.usage is not None:
        cost = "no price is stated" if sample.usd is None else f"${sample.usd:.6f}"
        usage = sample.reply.usage
        lines += [f"{usage.input} tokens in, {usage.output} out, {cost}", ""]
    return "\n".join(lines)


def _closing(made: "Preview", rows: int) -> str:
    pairs = [why for sample in made.samples for *_, why in sample.pairs]
    text = f"{pairs.count(None)} of {len(pairs)} pairs accepted, ${made.paid_usd:.6f} paid now"
    if (each := made.usd_per_row) is None:
        return text
    return f"{text}; ${each:.6f} a row at list price, so {rows:,} rows about ${each * rows:.2f}"
