"""What the columns of a verdict table are: told by the user, else by their names and values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from understudy.errors import BadInput
from understudy.judges import cells
from understudy.judges.reading import LONG, CodedColumn, CodedTable
from understudy.judges.roles import ROLES

_NAMES = {
    "judge": "judge judge_name judge_model judge_id rater rater_id grader evaluator annotator "
    "annotator_id scorer autorater critic",
    "kind": "rater_type judge_type annotator_type rater_kind evaluator_type",
    "temperature": "temperature temp",
    "order": "order swapped presentation position",
    "dimension": "dimension dim metric criterion criteria aspect attribute quality axis",
    "wording": "wording prompt_variant prompt_name template template_name variant rubric "
    "prompt_version method prompt",
    "first": "model_a system_a model_1 system_1 modela first left",
    "second": "model_b system_b model_2 system_2 modelb second right",
    "system": "system system_id system_name model model_id model_name generator candidate policy "
    "arm part llm engine bot answer",
    "repeat": "repeat rep repetition run trial round iteration attempt draw m seed sample "
    "sample_id",
    "subset": "subset dataset data_set category task domain benchmark topic language lang "
    "lang_pair language_pair split section",
    "error": "error errors failure failed parse_error unscored_reason refusal error_message status",
    "answer": "answer_sha output_sha response_sha answer_hash output_hash response_hash answer_id "
    "response_id output_id answer response output completion generation summary hypothesis "
    "translation",
    "verdict": "verdict_sha verdict_hash verdict_id judgement_id judgment_id judgement_sha",
    "length": "answer_chars output_chars response_chars answer_length output_length "
    "response_length answer_words answer_tokens output_tokens response_tokens",
    "item": "item item_id question_id prompt_id q qid query_id example_id doc doc_id session_id "
    "dialogue dialogue_id dialog dialog_id instance_id case task_id ticket ticket_id pair pair_id "
    "segment segment_id seg_id uid uuid key id idx index row row_number number no nr",
    "group": "group group_id user_id conversation_id document_id cluster",
    "score": "score scores rating ratings grade points stars mark verdict value judgement judgment "
    "judge_score judge_rating llm_score samples",
    "winner": "winner win preferred choice preference decision verdict vote",
    "right": "right label gold_label correct correct_answer better gold_winner human_winner",
    "human": "human human_score human_rating human_mean expert expert_score gold gold_score oracle "
    "oracle_label oracle_score truth ground_truth annotation reference_score human_label mos mqm "
    "label",
}  # fmt: skip
_QUESTIONS = ("question", "query", "instruction", "prompt", "input", "source", "article", "text")
_IN_ORDER = (  # in which columns are taken by their names
    *("judge", "kind", "temperature", "order", "dimension", "wording", "first", "second", "system"),
    *("repeat", "subset", "error", "answer", "verdict", "length", "group"),
)
_DOCUMENTS = ("doc", "doc_id", "document")
_SENTENCES = ("segment", "segment_id", "seg_id", "sentence")
_DIMENSIONS = {
    *("coherence", "consistency", "fluency", "relevance", "similarity", "precision", "accuracy"),
    *("helpfulness", "harmlessness", "correctness", "informativeness", "engagingness"),
    *("naturalness", "groundedness", "understandability", "overall", "completeness", "conciseness"),
    *("clarity", "depth", "creativity", "detail", "faithfulness", "factuality", "style", "tone"),
    *("usefulness", "safety", "quality", "honesty"),
}
_ASIDE = re.compile(
    r"(?:^|_)(?:sha|hash|digest|md5|chars|tokens|words|length|len|log_?probs?|url|uri|date|time|id"
    r"|timestamp|tstamp|created_at|updated_at|latency|seconds|duration|cost|usd|price|error_count|version"
    r"|licen[cs]e)(?:_|$)|log_?prob"
)
PEOPLE = re.compile(
    r"(?:^|_)(?:human|expert|turker|crowd|annotator|worker|people|gold|oracle)s?(?:$|[_\d])"
)
_OF_SCORES = re.compile(
    r"(?:^|[\W_])(?:scores?|ratings?|grades?|points|llm|run|rep|sample|trial)(?=$|[\W_])", re.I
)
_COMPOSED = ("|", "::", "__", ".")
_SIDES = ({"1", "2"}, {"a", "b"})
_MANY_REPEATS = 20
_FEWEST_ROWS = 20  # of which a number each tells that it counts rows
_LEAST = 0.6  # of the distinct values of a column of scores
_SHORT = 120  # characters of a name


class ScoreColumn(NamedTuple):
    """A column of scores and what its name says of them; "" where a column of the rows says it."""

    column: str
    judge: str = ""
    system: str = ""
    wording: str = ""
    dimension: str = ""
    is_human: bool = False


class WinnerColumn(NamedTuple):
    """A column of winners; `is_swapped` where the second answer was shown first."""

    column: str
    is_swapped: bool | None = None


@dataclass
class ColumnRoles:
    """Which column plays which role, and what became of the others."""

    roles: dict[str, list[str]]
    scores: list[ScoreColumn] = field(default_factory=list)
    winners: list[WinnerColumn] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)  # column -> why
    unknown: list[str] = field(default_factory=list)

    def one(self, role: str) -> str | None:
        """The column of a role that has at most one."""
        return next(iter(self.roles.get(role, ())), None)


def given_roles(words: Iterable[str], table: CodedTable) -> dict[str, list[str]]:
    """The roles that words like ROLE=COLUMN,COLUMN name; BadInput where there is no such thing."""
    found: dict[str, list[str]] = {}
    for word in words:
        role, _, names = word.partition("=")
        if role not in ROLES:
            raise BadInput(f"{word}: {role} is no role of a column; roles are {', '.join(ROLES)}")
        for name in names.split(","):
            places = [one for one in table.columns if one == name or _root(one) == name]
            if not places:
                shown = ", ".join(dict.fromkeys(map(_root, table.columns)))
                raise BadInput(f"{word}: {table.path} has no column {name}; it has {shown}")
            found.setdefault(role, []).extend(places)
    return found


def detect(table: CodedTable, given: Mapping[str, Sequence[str]]) -> ColumnRoles:
    """Say what every column of a table is; without any column of scores it holds no verdict."""
    made = ColumnRoles({role: list(names) for role, names in given.items() if role != "ignore"})
    made.ignored = {_root(name): "as asked" for name in given.get("ignore", ())}
    taken = {name for names in given.values() for name in names}
    left = {name: one for name, one in table.columns.items() if name not in taken}
    _by_name(table, left, made)
    _items(table, left, made)
    _scores(table, left, made)
    _rest(table, left, made)
    return made


def _by_name(table: CodedTable, left: dict[str, CodedColumn], made: ColumnRoles) -> None:
    """Take the columns whose names say what they are, where the values do not contradict."""
    for role in _IN_ORDER:
        if role in made.roles:
            continue
        names = [one for one in _called(role, left) if _fits(role, left[one], table)]
        for name in names if role == "subset" else names[:1]:
            made.roles.setdefault(role, []).append(name)
            del left[name]


def _called(role: str, left: Mapping[str, CodedColumn]) -> list[str]:
    """The columns with a usual name of a role, the most telling first.

    Of a place in an object the last part counts as well: judge.temperature.
    """
    plain: dict[str, str] = {}
    for name in left:
        plain.setdefault(_plain(name), name)
    if role not in ("human", "right"):  # parts of these are dimensions
        for name in left:
            if "." in name:
                plain.setdefault(_plain(name.rpartition(".")[2]), name)
    return [plain[name] for name in _NAMES[role].split() if name in plain]


def _fits(role: str, column: CodedColumn, table: CodedTable) -> bool:
    distinct, filled = len(column.values), column.filled
    if not filled:
        return role == "error"
    is_short = all(len(str(value)) <= _SHORT for value in column.values)
    comes_back = distinct <= max(2, filled / 4)
    if _plain(column.name) in ("prompt", "answer") and role in ("wording", "system"):
        # A name comes back on item after item; a question or an answer does not.
        return is_short and distinct <= max(2, table.rows / 20)
    if role in ("subset", "dimension", "wording", "order", "temperature", "judge", "kind"):
        return is_short and comes_back
    if role == "repeat":
        return is_short and (comes_back or distinct <= 64)
    if role in ("system", "first", "second"):
        return is_short
    return role != "length" or _is_score(column)


def _items(table: CodedTable, left: dict[str, CodedColumn], made: ColumnRoles) -> None:
    """What was asked: an id that comes back, else any id, else the question's own text."""
    if "item" in made.roles:
        return
    ids = [name for name in _called("item", left) if left[name].filled >= table.rows / 2]
    ids += [name for name in left if name not in ids and _is_id(left[name], table)]
    found = [name for name in ids if len(left[name].values) < left[name].filled] or ids
    chosen = found[:1]
    if chosen and _plain(chosen[0]) in _DOCUMENTS:
        chosen += [name for name in found[1:] if _plain(name) in _SENTENCES][:1]
    if not chosen:
        plain = {_plain(name): name for name in reversed(list(left))}
        chosen = [plain[name] for name in _QUESTIONS if name in plain][:1]
    for role in ("group", "repeat"):
        name = made.one(role)
        # Nobody repeats so often: run 1 to 3 are repeats, sample 1 to 500 are items.
        is_item = name and (role == "group" or len(table.columns[name].values) > _MANY_REPEATS)
        if not chosen and name and is_item:
            chosen = [name]
            del made.roles[role]
    if chosen:
        made.roles["item"] = chosen
    for name in chosen:
        left.pop(name, None)
    for name in ids:
        if left.pop(name, None):
            made.ignored[name] = f"another id than {chosen[0]}"


def _is_id(column: CodedColumn, table: CodedTable) -> bool:
    """Whether a column is called an id, or counts the rows."""
    name = _plain(column.name)
    if name.endswith("_id") and column.filled >= table.rows / 2:
        return True
    is_whole = all(isinstance(v, int) or str(v).isdigit() for v in column.values)
    return is_whole and table.rows >= _FEWEST_ROWS and len(column.values) == table.rows


def _scores(table: CodedTable, left: dict[str, CodedColumn], made: ColumnRoles) -> None:
    """Find the columns of winners, of judges' scores and of humans'."""
    made.winners = [WinnerColumn(name, _swapped(name)) for name in made.roles.pop("winner", ())]
    told = made.roles.pop("score", [])
    humans = made.roles.pop("human", [])
    if not made.winners and not told:
        _take_winners(table, left, made)
    if "right" not in made.roles:
        for name in _called("right", left):
            if all(cells.winner(value).score is not None for value in left[name].values):
                is_sided = bool(made.winners) or bool(_sides(left))
                if is_sided and left[name].values:
                    made.roles["right"] = [name]
                    del left[name]
                    break
    for name in humans or [name for name in left if _is_human(name) and _is_score(left[name])]:
        # A name of two parts says who and what: human.coherence
        who, _, what = _root(name).partition(".")
        made.scores.append(ScoreColumn(name, who, dimension=what, is_human=True))
        left.pop(name, None)
    if told:
        made.scores += _wide(told, made) if "judge" not in made.roles else _long(told, made)
    elif not made.winners:
        found = _own_scores(left, made)
        made.scores += found
        for one in found:
            del left[one.column]


def _is_human(name: str) -> bool:
    plain = _plain(_root(name))
    return plain in _NAMES["human"].split() or PEOPLE.search(plain) is not None


def _take_winners(table: CodedTable, left: dict[str, CodedColumn], made: ColumnRoles) -> None:
    names = [*_called("winner", left), *(name for name in left if _swapped(name) is not None)]
    sides = {
        value
        for role in ("first", "second")
        for name in made.roles.get(role, ())
        for value in table.columns[name].values
    }
    for name in dict.fromkeys(names):
        values = left[name].values
        is_pair = bool(sides) or _swapped(name) is not None or _are_two(table)
        is_pair = is_pair or any(isinstance(v, str) and not _is_number(v) for v in values)
        read = [value in sides or cells.winner(value).score is not None for value in values]
        if values and is_pair and sum(read) >= _LEAST * len(read):
            made.winners.append(WinnerColumn(name, _swapped(name)))
            del left[name]


def _are_two(table: CodedTable) -> bool:
    """Whether there are texts of two answers: output_1 and output_2, response_a and response_b."""
    stems: dict[str, set[str]] = {}
    for name in table.columns:
        if cut := re.fullmatch(
            r"(output|response|answer|completion|candidate)_?([12ab])", _plain(name)
        ):
            stems.setdefault(cut[1], set()).add(cut[2])
    return any(sides in _SIDES for sides in stems.values())


def _swapped(name: str) -> bool | None:
    """Whether winner_21 or winner_ba; None where a name does not say an order."""
    found = re.search(
        r"(?:winner|preferred|choice|verdict)_?(12|21|ab|ba|swapped|original)$", name, re.I
    )
    return None if found is None else found[1].lower() in ("21", "ba", "swapped")


def _own_scores(left: Mapping[str, CodedColumn], made: ColumnRoles) -> list[ScoreColumn]:
    """The columns of scores that nobody named."""
    found = [
        name
        for name, column in left.items()
        if _is_score(column) and (not _ASIDE.search(_plain(_root(name))) or _is_composed(name))
    ]
    # A repeat of which few could be read is one of its row, like the others.
    stems = {_stem(name)[0] for name in found if _stem(name)[1] is not None}
    found += [
        name
        for name, column in left.items()
        if name not in found
        and _stem(name)[1] is not None
        and _stem(name)[0] in stems
        and any(cells.score(value).score is not None for value in column.values)
    ]
    named = [name for name in _called("score", left) if name in found]
    if "right" in made.roles and (sided := _sides({name: left[name] for name in found})):
        return [ScoreColumn(name, system=side) for name, side in sided]
    places = [name for name in found if left[name].is_place]
    if places and _plain(_root(places[0]).rpartition(".")[2]) in _NAMES["score"].split():
        root = _root(places[0])
        return _long([name for name in places if _root(name) == root], made)
    samples = _samples(found)
    if len(samples) == 1 and (
        "judge" in made.roles or len(found) == len(next(iter(samples.values())))
    ):
        return _long(next(iter(samples.values())), made)
    if named and ("judge" in made.roles or len(found) == 1):
        return _long(named[:1], made)
    if "judge" in made.roles:
        return _long(found, made)
    return _wide(found, made)


def _long(names: Sequence[str], made: ColumnRoles) -> list[ScoreColumn]:
    """Columns of scores by one judge each row: repeats, or several dimensions."""
    judge = "" if "judge" in made.roles else "judge"
    is_repeat = len(names) == 1 or len({_stem(name)[0] for name in names}) == 1
    return [ScoreColumn(name, judge, dimension="" if is_repeat else _root(name)) for name in names]


def _wide(names: Sequence[str], made: ColumnRoles) -> list[ScoreColumn]:
    """A column for each judge, with a wording or a repeat where the name says it."""
    if names and all(_plain(name) in _DIMENSIONS for name in names):
        return [ScoreColumn(name, "judge", dimension=name) for name in names]
    sign = next((sign for sign in _COMPOSED if _parts(names, sign) > 1), None)
    if sign is not None:
        split = [_root(name).split(sign) for name in names]
        wording = f" {sign} " if sign == "|" else sign
        return [
            ScoreColumn(name, parts[0], wording=wording.join(parts[1:]))
            for name, parts in zip(names, split, strict=True)
        ]
    repeated = {name: stem for stem, those in _samples(names).items() for name in those}
    return [
        ScoreColumn(
            name, _OF_SCORES.sub("", repeated.get(name, _root(name))).strip(" _-.") or "judge"
        )
        for name in names
    ]


def _parts(names: Sequence[str], sign: str) -> int:
    """Into how many parts a sign cuts all names alike; 1 where it does not."""
    counts = {len(_root(name).split(sign)) for name in names}
    return counts.pop() if len(counts) == 1 and len(names) > 1 else 1


def _is_composed(name: str) -> bool:
    return "|" in name or "::" in name


def _samples(names: Sequence[str]) -> dict[str, list[str]]:
    """Columns that differ by a number at the end, which counts from 0 or 1: s1, s2, s3."""
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        stem, number = _stem(name)
        if number is not None:
            groups.setdefault(stem, {})[number] = name
    return {
        stem: [those[number] for number in sorted(those)]
        for stem, those in groups.items()
        if len(those) > 1
        and sorted(those) in (list(range(len(those))), list(range(1, len(those) + 1)))
    }


def _stem(name: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*?)[_ .#-]?\[?(\d{1,3})\]?", name)
    return (found[1], int(found[2])) if found else (name, None)


def _sides(left: Mapping[str, CodedColumn]) -> list[tuple[str, str]]:
    """score_1 and score_2, or score_a and score_b: the scores of two answers."""
    found: dict[str, dict[str, str]] = {}
    for name, column in left.items():
        cut = re.fullmatch(r"(.*(?:score|rating|grade)s?)_?([12ab])", name, re.I)
        if cut and _is_score(column):
            found.setdefault(cut[1], {})[cut[2].lower()] = name
    for those in found.values():
        if set(those) in _SIDES:
            return [(name, side) for side, name in those.items()]
    return []


def _is_score(column: CodedColumn) -> bool:
    """Whether most of what a column holds can be read as scores."""
    values = column.values[:5000]
    return (
        bool(values)
        and sum(cells.score(value).reason in ("", cells.EMPTY) for value in values)
        >= _LEAST * len(values)
        and any(cells.score(value).score is not None for value in values)
    )


def _rest(table: CodedTable, left: Mapping[str, CodedColumn], made: ColumnRoles) -> None:
    """Say why a column is left aside, or that nobody knows it."""
    for name, column in left.items():
        root, plain = _root(name), _plain(_root(name))
        if not column.filled:
            made.ignored[root] = "empty"
        elif any(isinstance(value, str) and len(value) > LONG / 2 for value in column.values):
            made.ignored[root] = "text"
        elif _ASIDE.search(plain):
            made.ignored[root] = "beside the verdict: length, cost, time, digest, log-probability"
        elif root not in [*made.unknown, *made.ignored]:
            made.unknown.append(root)


def _root(name: str) -> str:
    return re.sub(r"\[\d+\]$", "", name)


def _plain(name: str) -> str:
    """A name in small letters with underscores: `answerChars` and `Answer chars` are the same."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).strip("_")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
