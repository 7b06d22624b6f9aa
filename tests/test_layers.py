"""Imports point down the layers, and heavy libraries stay in their rooms."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "understudy"

LAYERS = {
    0: {"config", "agreement", "schema", "records", "errors", "locations", ""},
    1: {
        "artifacts",
        "prompts",
        "stages",
        "playground",
        "sandbox",
        "progress",
        "locks",
        "hub",
        "ranks",
    },
    2: {"service", "data", "launch", "collect"},
    3: {
        "synthesis",
        "baseline",
        "finetune",
        "inference",
        "evaluation",
        "routing",
        "local_model",
        "generation",
        "tiny_base",
    },
    4: {
        "flow",
        "pipeline",
        "worker",
        "status",
        "report",
        "tracking",
        "sweep",
        "init",
        "plan",
        "preview",
        "standing",
        "submission",
        "cancellation",
        "explain",
        "deploy",
    },
    5: {"compose", "cli", "__main__"},
}
ROOM = {name: layer for layer, names in LAYERS.items() for name in names}
# Modules of layer 3 that others of that layer may read, and why.
# Loading and sampling, for several stages; how scores are pooled, for the router.
SHARED = {"local_model", "generation", "evaluation"}
TORCH_ROOMS = {"finetune", "inference", "local_model", "generation", "tiny_base", "ranks", "deploy"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "tokenizers"}
PLOTTING = {"matplotlib", "seaborn", "pandas"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    name = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    name = "" if name == "__init__" else name
    return (
        next((known for known in ROOM if known and name.startswith(f"{known}_")), name)
        if (name not in ROOM)
        else name
    )


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[str]:
    rooms = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "understudy" and len(parts) > 1:
            part = parts[1]
            rooms.add(part if (SOURCE / part).is_dir() or (SOURCE / f"{part}.py").is_file() else "")
    return rooms


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    assert here in ROOM, f"{path} has no layer: add it to LAYERS"
    for name in own(imports(path)):
        there = room(SOURCE / f"{name}.py") if name else ""
        if there == here or (here, there) == ("config", "agreement"):
            continue
        allowed = ROOM[there] < ROOM[here] or ROOM[there] == ROOM[here] != 3 or there in SHARED
        assert allowed, f"{here} (layer {ROOM[here]}) imports {there} (layer {ROOM[there]})"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if room(path) not in TORCH_ROOMS:
        allowed = {"datasets"} if path == SOURCE / "data" / "hub.py" else set()
        if path.parent == SOURCE / "service" / "rehearsal":
            allowed = {"tokenizers"}  # it counts tokens as the tiny model does
        assert not roots & HEAVY - allowed
    assert not roots & PLOTTING, "plotting belongs to analysis/"
    if room(path) != "compose":
        assert not roots & {"hydra", "omegaconf"}
    if ROOM[room(path)] == 0:
        assert "numpy" not in roots


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_passes_300_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
