"""The words of a verb: its options and its other words in any order, and Hydra's options named."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

# An option of `python my_hydra_app.py` → what does the same here.
_OF_HYDRA = {
    **dict.fromkeys(("--cfg", "-c"), "`understudy config` prints the composed values"),
    **dict.fromkeys(("--resolve", "--package", "-p"), "`understudy config` prints them resolved"),
    **dict.fromkeys(
        ("--info", "-i"),
        "`understudy config` says where each value is set, `understudy options` what there is",
    ),
    **dict.fromkeys(
        ("--config-name", "-cn"),
        "there is one primary config; a file DIR/experiment/NAME.yaml of yours is chosen by "
        "--config-dir DIR experiment=NAME",
    ),
    **dict.fromkeys(
        ("--config-path", "-cp", "-cd"), "--config-dir DIR adds a directory of your own options"
    ),
    "--hydra-help": "`understudy options` lists what can be chosen, --help what a verb takes",
    "--experimental-rerun": "the same command goes on where it stopped",
    **dict.fromkeys(("--shell-completion", "-sc"), "there is none; see `understudy options`"),
}


class VerbParser(argparse.ArgumentParser):
    """A verb's parser. argparse takes no further word after an option, so options go first."""

    takes_settings = False  # words like `group.key=value`, collected in `set`

    def collect_settings(self) -> None:
        """Collect words like `group.key=value` in `set`, apart from the verb's other words."""
        self.takes_settings = True
        self.add_argument("--set", action="append", default=[], help=argparse.SUPPRESS)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words with the options before all others."""
        return super().parse_known_args(self._options_first(list(args or ())), namespace)

    def _options_first(self, words: Sequence[str]) -> list[str]:
        options: list[str] = []
        others: list[str] = []
        waiting = list(words)
        while waiting:
            word = waiting.pop(0)
            if word == "--":
                return [*options, *others, word, *waiting]
            if self.takes_settings and re.match(r"\w+(\.\w+)+=", word):
                options.append(f"--set={word}")
            elif not word.startswith("-") or word == "-":
                others.append(word)
            else:
                options.append(word)
                if self._takes_value(word) and waiting:
                    options.append(waiting.pop(0))
        return [*options, *others]

    def _takes_value(self, word: str) -> bool:
        """Whether the next word belongs to this option; ends the program for one of Hydra's."""
        name, has_value, _ = word.partition("=")
        known = self._option_string_actions
        if name not in known and name in _OF_HYDRA:
            self.exit(2, f"understudy: {name} is an option of Hydra's; {_OF_HYDRA[name]}\n")
        names = [name] if name in known else [full for full in known if full.startswith(name)]
        return bool(names) and not has_value and known[names[0]].nargs != 0
