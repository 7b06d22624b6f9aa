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


def chat_template(name: str) -> Path:
    """`prompts/chat_NAME.jinja`, or a .jinja file of the user's own."""
    if name.endswith(".jinja"):
        return Path(name).expanduser()
    return PACKAGE / "prompts" / f"chat_{name}.jinja"


def chat_templates() -> list[str]:
    """The names of ours."""
    found = (PACKAGE / "prompts").glob("chat_*.jinja")
    return sorted(path.stem.removeprefix("chat_") for path in found)
