"""The house: rooms import downward, no circles, the spine needs no annex, heavy libraries late."""

import pytest

from support import house

KNOWN = house.modules()
FOUND = house.imports(KNOWN, "understudy")
ANALYSIS = house.modules(house.ROOT / "analysis")

# library → the rooms that may import it, and modules named one by one
HEAVY = {
    **dict.fromkeys(
        ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "tokenizers"),
        ("training", "inference", "models", "export", "serve"),
    ),
    "datasets": ("training", "models", "data.sources"),
    "hydra": ("config.compose",),
    "omegaconf": ("config.compose",),
    "wandb": ("pipeline.tracking",),
    "openai": ("services.providers.openai",),
    "anthropic": ("services.providers.anthropic",),
    "google": ("services.providers.google",),
    "starlette": ("serve", "gateway", "rehearsal"),
    "uvicorn": ("serve", "gateway", "rehearsal"),
    "sklearn": ("routing",),
    "statsmodels": ("evaluation.statistics",),
    "matplotlib": (),
    "seaborn": (),
    "pandas": (),
}
# The rehearsal counts tokens as the tiny model does.
EXTRA = {"tokenizers": ("rehearsal",)}


def test_every_room_has_a_place_in_the_order() -> None:
    known = {name for names in house.LEVELS for name in names} | {*house.ANNEXES, "__main__"}
    assert {house.room(module) for module in KNOWN} <= known


def test_imports_point_down_and_the_spine_imports_no_annex() -> None:
    found = {f"{one.reader} imports {one.read}" for one in house.upward(FOUND)}
    assert found == set()


def test_no_files_import_each_other_in_a_circle() -> None:
    drawn = house.imports(ANALYSIS, "analysis")
    found = {" · ".join(group) for group in house.circles(FOUND) + house.circles(drawn)}
    assert found == set()


def test_nothing_lies_loose_at_the_top_of_the_package() -> None:
    loose = {path.stem for path in house.SOURCE.glob("*.py")}
    assert loose <= house.LOOSE


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_in_their_rooms(library: str) -> None:
    rooms = HEAVY[library] + EXTRA.get(library, ())
    for module, path in KNOWN.items():
        if library in house.libraries(path):
            assert any(f"{module}.".startswith(f"{room}.") for room in rooms), module


def test_no_public_class_name_stands_twice() -> None:
    names = [name for path in KNOWN.values() for name in house.public_classes(path)]
    assert {name for name in names if names.count(name) > 1} == set()
