"""The verb `export`: a run's model as files for others, once they are proved to be that model."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.config.export import ExportConfig

_HELP = "write a run's model for others to serve, once it is proved to be the one that was judged"
_EXAMPLES = """The judged model, the files loaded afresh, and a server of them answer the same test
prompts. A difference in chat template, token ids, stop tokens, weights or answers is named and
stops the export (exit 1).

examples:
  understudy export demo                              merged safetensors in the run's folder
  understudy export demo --to model export.what=adapter
  understudy export demo --push me/model --public
  understudy export demo export.what=gguf export.llama_cpp=/opt/llama.cpp
"""


def register(verbs: Any) -> None:
    """Add `export` to the verbs."""
    sub = verbs.add_parser(
        "export",
        help=_HELP,
        description=_HELP,
        epilog=_EXAMPLES,
        usage="understudy export [RUN] [export.KEY=VALUE ...] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(verb=_export)
    sub.add_argument("run", nargs="?", metavar="RUN", help="a name, a path, or latest (default)")
    sub.collect_settings()
    sub.add_argument("--to", metavar="DIR", help="default: export-WHAT in the run's folder")
    sub.add_argument("--force", action="store_true", help="replace an earlier export in DIR")
    sub.add_argument("--round", type=int, metavar="N", help="default: that which passed, or last")
    sub.add_argument("--push", metavar="OWNER/NAME", help="also to this model on the hub")
    sub.add_argument("--public", action="store_true", help="make it public; default: private")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")


def _export(arguments: argparse.Namespace) -> None:
    from understudy.data import publish
    from understudy.export.export import export
    from understudy.pipeline.chosen import choose
    from understudy.pipeline.record import find_run

    settings, root = _settings(arguments.set, arguments.root)
    if arguments.push:
        publish.check_hub(arguments.push, "model")
    chosen = choose(find_run(root, arguments.run), arguments.round)
    word, reason = chosen.decision
    if word != "MIGRATE":
        print(f"{word}: {reason.rstrip('.')}; the card says so", file=sys.stderr)
    to = Path(arguments.to or chosen.run.path.parent / f"export-{settings.what}")
    done = export(chosen, settings, to.expanduser().absolute(), arguments.force)
    for what, why in done.report.unmeasured.items():
        print(f"not checked: {what}: {why}")
    checked = ", ".join(done.report.measured)
    is_unrun = settings.what == "gguf" and "llama.cpp" in done.report.unmeasured
    what = f"{settings.what} of {chosen.run.name}{', converted from a merge' * is_unrun}"
    print(f"{done.path}: {what}; as judged in {checked}")
    if arguments.push:
        files = [path.name for path in done.path.iterdir()]
        words, private = "Add a model exported by understudy", not arguments.public
        print(publish.upload(done.path, files, arguments.push, "model", private, words))


def _settings(overrides: list[str], root: str | None) -> "tuple[ExportConfig, Path]":
    """The composed `export.*`, and where runs are."""
    from understudy import config
    from understudy.config.compose import compose

    for text in overrides:
        if not text.startswith("export."):
            raise BadInput(f"{text} is not a setting of an export; those begin with export.")
    built = config.build(compose(overrides, None))
    return built.export, Path(root or built.paths.root).expanduser().absolute()
