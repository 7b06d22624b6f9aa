"""The verb `serve`: an OpenAI-compatible server for the model of a run, or of a directory."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import BadInput, EnvironmentFailed

if TYPE_CHECKING:
    from understudy.config.serve import ServeConfig
    from understudy.serve.model import Served

_ABOUT = "serve a run's model, or a directory's, to OpenAI clients; asks no hub"
_EXAMPLES = """Served are POST /v1/chat/completions and /v1/completions (also as streams), GET
/v1/models, /health and /metrics; answers in JSON, and tool calls, keep to their schemas. KEY=VALUE
are the settings of conf/serve/default.yaml, as `understudy config` shows them.

examples:
  understudy serve my-run
  understudy serve exported/ serve.queue=64 serve.max_tokens=512 --port 0
  understudy serve my-run serve.engine=vllm serve.python=/opt/vllm/bin/python
  UNDERSTUDY_API_KEY=... understudy serve my-run --host 0.0.0.0

Any address but loopback needs a key of 16 characters in UNDERSTUDY_API_KEY. Ctrl-C or SIGTERM lets
what is under way end; a second one aborts.
"""


def register(verbs: Any) -> None:
    """Add the verb to the command line."""
    sub = verbs.add_parser(
        "serve",
        help=_ABOUT,
        description=_ABOUT,
        epilog=_EXAMPLES,
        usage="understudy serve RUN|DIR [serve.KEY=VALUE ...] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(verb=_serve)
    sub.add_argument("what", metavar="RUN|DIR", help="a name, a path, or latest; or a directory")
    sub.collect_settings()
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument(
        "--round", type=int, metavar="N", help="of the run (default: that which passed)"
    )
    sub.add_argument("--host", metavar="ADDRESS", help="default: 127.0.0.1")
    sub.add_argument("--port", metavar="N", help="default: 8000; 0 = a free one")


def _serve(arguments: argparse.Namespace) -> None:
    try:
        from understudy.serve import process
    except ModuleNotFoundError as error:
        raise EnvironmentFailed(
            f"`serve` needs {error.name}: pip install 'understudy[serve]'"
        ) from None
    from understudy.store import hub

    settings, root = _settings(arguments)
    key = process.key_for(settings.host)
    process.check(settings)
    with hub.left_alone():
        served = _served(arguments, root)
        with process.listen(settings.host, settings.port) as listening:
            process.run(served, settings, listening, key)


def _settings(arguments: argparse.Namespace) -> "tuple[ServeConfig, Path]":
    """`serve.*` as composed with the command line, and where runs are."""
    from understudy import config
    from understudy.config.compose import compose

    for text in arguments.set:
        if not text.startswith("serve."):
            raise BadInput(f"{text} is no setting of `serve`; give serve.KEY=VALUE")
    given = [
        f"serve.{name}={value}"
        for name in ("host", "port")
        if (value := getattr(arguments, name)) is not None
    ]
    composed = config.build(compose([*arguments.set, *given], None))
    root = Path(arguments.root or composed.paths.root).expanduser().absolute()
    python = composed.serve.python or composed.inference.python
    return replace(composed.serve, python=python), root


def _served(arguments: argparse.Namespace, root: Path) -> "Served":
    from understudy.pipeline import chosen
    from understudy.pipeline.record import find_run
    from understudy.serve import model

    path = Path(arguments.what).expanduser()
    if any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        if arguments.round is not None:
            raise BadInput(f"--round={arguments.round} is for a run; {path} is a model's directory")
        return model.of_directory(path)
    found = chosen.choose(find_run(root, arguments.what), arguments.round)
    word, why = found.decision
    if word != "MIGRATE":
        print(f"note: {word}: {why}", file=sys.stderr)
    return model.of_run(found)
