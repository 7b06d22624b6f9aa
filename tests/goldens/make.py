"""Write the goldens anew: `PYTHONPATH=src python tests/goldens/make.py [FILE…]`.

They say what version 90baa9b computed. Only a change that is meant to alter fingerprints, journal
keys or pages may write them again, and says so; `random_fingerprints` keeps its drawn overrides.
"""

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from support import golden_parts as parts

REHEARSED = "rehearsal.url=http://127.0.0.1:9"  # some of the paper's services are withdrawn
SETTLED = {  # what an experiment or a sweep wants beside its name
    "sweep=judges": [["gate.judges=[offline]"], ["data_size=250"]],
    "sweep=rubric_audit": [["experiment=rubric_audit"]],
    "experiment=judge_bridge": [
        ["inference=file", "inference.repo=null", "inference.path={here}/answers.jsonl"]
    ],
}
_DRAWN = 30
_GROUPS = (
    *("coverage", "task", "model", "trainer", "judge", "baseline", "synthesis", "gate"),
    *("inference", "accelerate"),
)
_OWN = ("base_url=http://127.0.0.1:18766/v1", "model=some-model")
_NEEDS = {  # an option → what it cannot do without
    "coverage=file": ["coverage.path={here}/pairs.jsonl"],
    "coverage=hub": ["coverage.repo=some/pairs", f"coverage.revision={'0123456789' * 4}"],
    "synthesis=file": ["synthesis.path={here}/pool.jsonl"],
    "synthesis=hub": ["synthesis.repo=some/pool", f"synthesis.revision={'abcdef0123' * 4}"],
    "synthesis=openai_compatible": [f"synthesis.service.{word}" for word in _OWN],
    "inference=file": ["inference.path={here}/answers.jsonl"],
    "inference=vllm": ["inference.python=its/python"],
    "judge=openai_compatible": [f"judges.openai_compatible.{word}" for word in _OWN],
}
_LEAVES = {
    "data_size": ("0", "8", "250", "1k"),
    "seed": ("0", "1", "7"),
    "loop.sizes": ("[0,8]", "[0,100,1k]"),
    "loop.subsets": ("nested", "prefix"),
    "loop.max_rounds": ("1", "2"),
    "coverage.rows": ("64", "200", "280"),
    "coverage.seed": ("1", "2"),
    "coverage.split.holdout": ("0", "0.2", "12"),
    "synthesis.seeds": ("uniform", "weak"),
    "synthesis.depth": ("1", "3"),
    "trainer.lr": ("1e-4", "0.0003"),
    "trainer.epochs": ("2", "3"),
    "trainer.start": ("base", "previous"),
    "trainer.lora_rank": ("4", "8"),
    "inference.temperature": ("0", "0.3", "1"),
    "inference.k": ("1", "3"),
    "evaluation.m": ("1", "3"),
    "evaluation.prompt": ("paper", "paraphrased", "scale_5"),
    "evaluation.order": ("candidate_first",),
    "task.execute_code": ("true",),
    "++gate.margin": ("3", "7.5"),
    "model.revision": ("null",),  # pinned from hub.json
    "cluster.threads": ("2",),  # no science
}
_NOT = {("inference", "hub")}  # whose rows say how many rounds there are
_SHARE = 0.3  # of the leaves that a drawn config sets


def files_of(group: str) -> list[str]:
    """The experiments or sweeps of `conf/` that have fingerprints of their own."""
    folder = parts.HERE.parents[1] / "conf" / group
    names = [p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml")]
    return sorted(f"{group}={name}" for name in names if not name.startswith(parts.WITHOUT))


def fingerprints() -> list[Any]:
    given = [
        [name, *more]
        for name in [*files_of("experiment"), *files_of("sweep")]
        for more in SETTLED.get(name, [[]])
    ]
    given += [[], ["model=gemma_2b", "trainer=lora", "model.revision=null"]]  # of hub.json
    return [parts.fingerprints(_real_or_rehearsed(words)) for words in given]


def _real_or_rehearsed(words: list[str]) -> list[str]:
    try:
        parts.configs(words)
    except parts.UnderstudyError:
        return [*words, REHEARSED]
    return words


def random_fingerprints() -> list[Any]:
    if (parts.HERE / "random_fingerprints.json").is_file():
        return [parts.fingerprints(made["overrides"]) for made in parts.stored(FILES[1])]
    chance, found = random.Random(0), []
    while len(found) < _DRAWN:
        words = _drawn(chance)
        try:
            made = parts.fingerprints(words)
        except parts.UnderstudyError as error:
            print(f"no config: {error}", file=sys.stderr)
            continue
        found.append(made)
    return found


def _drawn(chance: random.Random) -> list[str]:
    folder, words = parts.HERE.parents[1] / "conf", []
    for group in chance.sample(_GROUPS, chance.randint(3, 7)):
        options = sorted(path.stem for path in (folder / group).glob("[!_]*.yaml"))
        words.append(f"{group}={chance.choice([o for o in options if (group, o) not in _NOT])}")
    words += [need for word in words for need in _NEEDS.get(word, [])]
    for leaf, values in _LEAVES.items():
        if chance.random() < _SHARE:
            words.append(f"{leaf}={chance.choice(values)}")
    return [*words, *([REHEARSED] if chance.random() < 0.3 else [])]


def journal_keys() -> Any:
    return parts.journal_keys()


def pages() -> Any:
    with tempfile.TemporaryDirectory() as directory:
        return parts.pages(Path(directory))


FILES = parts.FILES
_MAKERS = (fingerprints, random_fingerprints, journal_keys, pages)


def write(name: str) -> None:
    made = dict(zip(FILES, _MAKERS, strict=True))[name]()
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    (parts.HERE / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FILES:
        write(wanted)
