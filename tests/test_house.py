"""The house: rooms import downward, no circles, the spine needs no annex, heavy libraries late."""

import pytest

from support import house

KNOWN = house.modules()

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
    "llguidance": ("inference",),
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


@pytest.fixture(scope="module")
def found() -> set[house.Import]:
    return house.imports(KNOWN, "understudy")


def test_imports_point_down_and_the_spine_imports_no_annex(found: set[house.Import]) -> None:
    assert [f"{one.reader} imports {one.read}" for one in house.upward(found)] == []


def test_no_files_import_each_other_in_a_circle(found: set[house.Import]) -> None:
    drawn = house.imports(house.modules(house.ROOT / "analysis"), "analysis")
    assert house.circles(found) + house.circles(drawn) == []


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
