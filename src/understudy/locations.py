"""Where packaged files are: the checkout first, then the wheel's copy."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shared(name: str) -> Path:
    """The directory `conf`, `analysis` or `slurm`: beside `src/`, or inside the installed wheel."""
    checkout = PACKAGE.parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    return PACKAGE / "_shared" / name


def model(path: str) -> Path:
    """A local model directory; `package:NAME` is one that ships with understudy."""
    if path.startswith("package:"):
        return PACKAGE / "models" / path.removeprefix("package:")
    return Path(path).expanduser()
