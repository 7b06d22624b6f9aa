"""`understudy forget --user ID`: take one user's rows out, and name what was made from them."""

import argparse
from pathlib import Path
from typing import Any

from understudy.errors import BadInput

_HELP = "remove one user's rows from logs, labels and files; name the stages made from them"


def register(verbs: Any) -> None:
    """Add the verb `forget`."""
    sub = verbs.add_parser("forget", help=_HELP, description=_HELP)
    sub.set_defaults(verb=forget)
    sub.add_argument("files", nargs="*", metavar="FILE", help="coverage or shadow files elsewhere")
    sub.add_argument("--user", required=True, metavar="ID", help="as the clients name the user")
    sub.add_argument("--root", metavar="DIR", help="where runs are (default: paths.root)")
    sub.add_argument("--dry-run", action="store_true", help="say what there is, remove nothing")


def forget(arguments: argparse.Namespace) -> int:
    """Remove the rows; exit code 1 where some could not be removed."""
    from understudy.config.compose import runs_root
    from understudy.forget.forget import forget as forgotten

    if not arguments.user.strip():
        raise BadInput("--user is empty; give the id as the clients name the user")
    files = [Path(one).expanduser().absolute() for one in arguments.files]
    if missing := next((one for one in files if not one.is_file()), None):
        raise BadInput(f"{missing} is no file; name coverage or shadow files")
    root = runs_root(arguments.root)
    found = forgotten(root, arguments.user, files, _is_busy, arguments.dry_run)
    verb = "would be removed" if arguments.dry_run else "removed"
    for path, count in found.removed.items():
        print(f"{count:,} {verb}: {path}")
    for path, why in found.left.items():
        print(f"not removed: {path}: {why}")
    for title, stages in (
        ("stages that hold rows of this user", found.stages),
        ("stages made from them", found.made_from),
    ):
        if stages:
            print(f"{title}: {', '.join(stages)}")
    if found.stages:
        print(
            "finished stages are not changed: delete their folders and those made from them, with "
            "their replies (`understudy journal purge --stage STAGE --yes`), exports and run pages"
        )
    if not (found.removed or found.left or found.stages):
        print(f"nothing of {arguments.user} below {root}")
    return 1 if found.left else 0


def _is_busy(gateway: Path) -> bool:
    """Whether a gateway may be writing there."""
    try:
        from understudy.gateway.server import running
    except ModuleNotFoundError:
        return False
    if (address := running(gateway)) is None:
        return False
    return (Path("/proc") / str(address.pid)).exists()
