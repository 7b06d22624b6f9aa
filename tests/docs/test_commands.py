"""Every command that we show anybody parses and composes; every link and path leads somewhere."""

import argparse
import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import commands, files
from support.commands import Command
from support.house import ROOT
from understudy import config
from understudy.cli import collect as cli_collect
from understudy.cli import export as cli_export
from understudy.cli import gateway as cli_gateway
from understudy.cli import serve as cli_serve
from understudy.cli.main import main, parser
from understudy.config import compose as composing
from understudy.gateway import control

PAGES = {str(path.relative_to(ROOT)): path for path in commands.pages()}
# A notebook: what was typed on its day, which may be no command of today.
NOTEBOOK = "experiments/LOG.md"
# Of messages and docstrings: a way of use is spoken of, nothing that could be typed as it stands.
SPOKEN_OF = {("gateway", "set"), ("run", "inference=file")}
GUIDES = [name for name in PAGES if name not in (NOTEBOOK, "CHANGELOG.md")]


def _verbs(found: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (a for a in found._actions if isinstance(a, argparse._SubParsersAction))
    return dict(verbs.choices)


def _in_help() -> Iterator[Command]:
    for name, found in {"": parser(), **_verbs(parser())}.items():
        usage, _, rest = found.format_help().partition("\n\n")
        assert usage.startswith("usage:")
        yield from commands.of_help(f"understudy {name} --help", rest)


def _in_source() -> Iterator[Command]:
    """Commands in messages, docstrings and the comments of config files."""
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from commands.of_help(f"{place}:{node.lineno}", node.value)
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        yield from commands.of_prose(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the option files that the pages name."""
    made = tmp_path_factory.mktemp("pages")
    rows = files.write(made / "tickets.jsonl", map(files.llamaduo, range(40)))
    assert main(["init", str(rows), "--out", str(made / "understudy-conf")]) == 0
    (made / "folder").mkdir()
    for _, body in _option_files():
        name, text = body.split("\n", 1)
        path = made / "mine" / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return made


def _option_files() -> Iterator[tuple[str, str]]:
    """The blocks of YAML in the guides, which begin with the name of their file."""
    for name in GUIDES:
        for language, body, start in commands.blocks(PAGES[name].read_text(encoding="utf-8")):
            if language == "yaml":
                assert re.match(r"# \w+/\w+\.yaml\n", body), f"{name}:{start} names no file"
                yield f"{name}:{start}", body


@cache
def _composes(overrides: tuple[str, ...], config_dir: str | None) -> None:
    """Compose the one cell, or the first and the last of a sweep."""
    terms = composing.grid(list(overrides), config_dir).terms.values()
    for cell in {tuple(values[0] for values in terms), tuple(values[-1] for values in terms)}:
        config.build(composing.compose(list(cell), config_dir))


def check(words: list[str]) -> None:
    """Parse the command, and compose what the verb would compose."""
    if (len(words) == 1 and words[0] in _verbs(parser())) or tuple(words) in SPOKEN_OF:
        return
    try:
        found = parser().parse_args(words)
    except SystemExit as ended:
        if ended.code == 0:  # --help, --version
            return
        pytest.fail("the parser does not take it")
    verb = words[0]
    own = getattr(found, "config_dir", None)
    if verb in ("run", "plan", "preview", "config", "inject"):
        chosen = tuple(found.overrides)
        if composing.is_search(list(chosen)):  # its plugin is an extra, and an interval no cell
            chosen = tuple(w for w in chosen if not w.startswith("hydra") and "interval(" not in w)
        _composes(chosen, own)
    elif verb == "explain" and any("=" in word for word in found.cell):
        _composes(tuple(found.cell), own)
    elif verb == "rehearse" and found.command:
        inner = list(found.command)
        assert inner[0] in ("run", "plan", "preview", "config", "gateway")
        check([*inner[:1], "rehearsal.url=http://127.0.0.1", *inner[1:]])
    elif verb == "route" and "=" in found.what[0]:
        composing.Composer(None).values(found.what)
    elif verb == "gateway" and found.words and "=" not in found.words[0]:
        given = cli_gateway._pairs(found.words[0], found.words[1:])
        if given:
            local = control.Local("http://127.0.0.1:8000/v1")
            control.changed(control.Control("record", locals=(local,)), given)
    elif verb == "gateway":
        cli_gateway.composed(found.words, found)
    elif verb == "serve":
        cli_serve._settings(found)
    elif verb == "export":
        cli_export._settings(found.set, found.root)
    elif verb == "collect":
        cli_collect._settings(found)


def complaints(found: Iterator[Command], monkeypatch: pytest.MonkeyPatch, here: Path) -> list[str]:
    monkeypatch.chdir(here)
    failed = []
    for command in dict.fromkeys(found):
        try:
            check(list(command.words))
        except (Exception, pytest.fail.Exception) as error:
            failed.append(f"{command}\n    {error}")
    return failed


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "README.md" else [pytest.mark.slow])
        for name in PAGES
        if name != NOTEBOOK
    ],
)
def test_the_commands_of_a_page_parse_and_compose(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\n".join(complaints(commands.of_page(PAGES[name]), monkeypatch, here)) == ""


@pytest.mark.slow
def test_the_commands_of_every_help_parse_and_compose(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(_in_help())
    assert len(found) > 20
    assert "\n".join(complaints(iter(found), monkeypatch, here)) == ""


@pytest.mark.slow
def test_the_commands_in_messages_and_comments_parse_and_compose(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\n".join(complaints(_in_source(), monkeypatch, here)) == ""


def test_a_placeholder_that_nobody_explains_fails() -> None:
    with pytest.raises(AssertionError, match="what does WHATEVER"):
        list(commands.of_line("here", "understudy status WHATEVER"))


def test_commands_are_found_behind_others_and_before_comments() -> None:
    line = "A=1 understudy decide move && understudy export move --to 'my model'; cd x  # never"
    assert [one.words for one in commands.of_line("here", line)] == [
        ("decide", "move"),
        ("export", "move", "--to", "my model"),
    ]


# --- other things that are typed ------------------------------------------------------------------


@pytest.mark.parametrize("name", GUIDES)
def test_targets_modules_and_scripts_that_a_page_names_are_there(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    code = "\n".join([body for _, body, _ in commands.blocks(text)] + list(commands.inline(text)))
    for words in re.findall(r"^make ((?:[a-z]+ ?)+)", code, re.M):
        assert set(words.split()) <= targets, f"make {words}"
    for module in re.findall(r"python -m ((?:analysis|understudy)[\w.]*)", code):
        assert find_spec(module) is not None, module
    for script in re.findall(r"^(?:experiments|slurm)/\S+\.sh", code, re.M):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("name", GUIDES)
def test_links_and_paths_of_a_page_resolve(name: str) -> None:
    path = PAGES[name]
    text = commands.prose(path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
    homes = (ROOT, ROOT / "src/understudy", ROOT / "src/understudy/services", path.parent)
    for code in commands.inline(text):
        is_path = re.fullmatch(
            r"[\w.-]+(?:/[\w.-]+)*/(?:[\w.-]+\.(?:py|md|ya?ml|sh|svg|json))?", code
        )
        first = code.partition("/")[0]
        is_ours = first != "runs" and first in {
            p.name for home in homes[:2] for p in home.iterdir()
        }
        if is_path and is_ours and not re.search(r"[A-Z]{3}", code):
            assert any((home / code).exists() for home in homes), code


@pytest.mark.parametrize("name", GUIDES)
def test_config_keys_and_options_that_a_page_names_exist(name: str) -> None:
    groups = composing.groups(composing.config_dirs(None))
    roots = {leaf.partition(".")[0] for leaf in config.LEAVES}
    text = PAGES[name].read_text(encoding="utf-8")
    for code in commands.inline(commands.prose(text)):
        if not re.fullmatch(r"[a-z_]+(?:\.[a-z0-9_]+)*(?:=\S*)?", code):
            continue
        key, _, value = code.partition("=")
        if "=" in code and key in groups and re.fullmatch(r"[a-z0-9_/]+", value):
            assert value in groups[key] or (PAGES[name].parent.parent / code).exists(), code
        elif re.search(r"\.(?:py|sh|md|ya?ml|json|cpp)$", key):
            continue  # a file
        elif "." in key and key.partition(".")[0] in roots:
            assert composing._is_known(key, config.LEAVES), code


@pytest.mark.slow
def test_option_files_that_a_page_shows_compose(here: Path) -> None:
    found = list(_option_files())
    assert found
    for place, body in found:
        group, _, option = (
            body.split("\n")[0].removeprefix("# ").removesuffix(".yaml").partition("/")
        )
        made = composing.compose([f"{group}={option}"], str(here / "mine"))
        assert config.build(made), place


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_each_door_of_the_readme_has_at_most_ten_lines() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Three doors")[2]
    doors = [body for _, body, _ in commands.blocks(text.partition("\n## ")[0])]
    assert len(doors) == 3
    assert all(len(door.splitlines()) <= 10 for door in doors)
