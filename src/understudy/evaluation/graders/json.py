"""json: the answer is valid JSON with the reference's fields.

precision = F1 over fields: 2 x equal ones / (the reference's + the answer's). A field is a value at
its path; an empty object or list is one. Lists count in any order: objects in them are paired so
that most fields are equal, what else is in them must be there as it is. A list in a list is a row,
one field, whose order counts (["EMAIL", "a@b.c"]). With `whole` one wrong field makes it 0.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from understudy.config.grader import Json
from understudy.errors import BadInput
from understudy.evaluation.graders import MOST, Case, Graded, Outcome, Rule, Ungraded, shown, wrong
from understudy.evaluation.graders.texts import normalizer
from understudy.playground.sandbox import Sandbox
from understudy.prompts.fences import fenced
from understudy.records import Coverage

_PAIRED = 64  # objects of a list that are paired; longer lists only by equal ones
Check = Callable[[Any], str | None]  # what of a schema a value does not meet


def make(settings: Json, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule; raise BadInput for a schema that is none."""
    fields = Fields(normalizer(settings.ignore), settings.lists == "any_order")
    check = None if settings.schema is None else _schema(Path(settings.schema).expanduser())
    of_rows: dict[str, Check] = {}
    reference = lru_cache(4096)(read)  # of which a row has several answers

    def rule(case: Case) -> Outcome:
        try:
            wanted = reference(case.reference)
        except ValueError:
            return Ungraded("no_reference", "the reference is no JSON")
        try:
            given = read(case.answer)
            score, reason = fields.compare(wanted, given)
        except (ValueError, RecursionError) as error:
            return wrong(f"it is no JSON: {error}"[:200])
        its = check
        if (schema := case.expected.get("schema")) is not None:
            text = json.dumps(schema, sort_keys=True)
            its = of_rows.get(text) or of_rows.setdefault(text, checker(schema))
        if its is not None and (broken := its(given)) is not None:
            return wrong(f"it does not meet the schema: {broken}")
        return Graded(0.0 if settings.whole and score < MOST else score, reason=reason)

    return rule


def read(text: str) -> Any:
    """Return the JSON that a text is, or that its fences hold; ValueError says why it is none."""
    try:
        return _loads(text)
    except ValueError:
        if (inner := fenced(text, "json")) is None:
            raise
        return _loads(inner)


def _loads(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _schema(path: Path) -> Check:
    try:
        return checker(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} holds no JSON schema: {error}") from None


def checker(schema: Any) -> Check:
    """Return what a schema finds wrong with a value: the place and why; None where it is met."""
    try:
        from jsonschema import SchemaError, validators
        from referencing import Registry
    except ModuleNotFoundError:
        raise BadInput(
            "a JSON schema needs jsonschema: pip install 'understudy[graders]'"
        ) from None
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise BadInput(f"the JSON schema is none: {error.message}") from None
    validator = kind(schema, registry=Registry())  # which fetches nothing from the network

    def check(value: Any) -> str | None:
        error = next(validator.iter_errors(value), None)
        return None if error is None else f"{error.json_path}: {error.message}"[:200]

    return check


class Fields:
    """Compares JSON values field by field."""

    def __init__(self, normal: Callable[[str], str], any_order: bool) -> None:
        self._normal = normal
        self._any_order = any_order

    def compare(self, wanted: Any, given: Any) -> tuple[float, str | None]:
        """Return F1 over fields, 0 to 100, and the first difference."""
        if repr(wanted) == repr(given):
            return MOST, None
        equal, sizes = self._equal(wanted, given), (_size(wanted), _size(given))
        if sizes == (equal, equal):
            return MOST, None
        return 200.0 * equal / sum(sizes), self._difference(wanted, given, "$")

    def _is_same(self, wanted: Any, given: Any) -> bool:
        """Whether two values are equal: 1 is 1.0, and neither is true."""
        if isinstance(wanted, str) and isinstance(given, str):
            return wanted == given or self._normal(wanted) == self._normal(given)
        return self._text(wanted) == self._text(given)

    def _text(self, value: Any, is_row: bool = False) -> str:
        """A value as text, the same for equal ones."""
        if isinstance(value, dict):
            fields = sorted((key, self._text(inner)) for key, inner in value.items())
            return f"{{{','.join(f'{json.dumps(key)}:{inner}' for key, inner in fields)}}}"
        if isinstance(value, list):
            items = [self._text(inner, is_row=isinstance(inner, list)) for inner in value]
            return f"[{','.join(sorted(items) if self._any_order and not is_row else items)}]"
        if isinstance(value, str):
            return json.dumps(self._normal(value))
        if isinstance(value, float) and value.is_integer():
            return str(int(value))  # 1.0 is 1, and true is neither
        return json.dumps(value)

    def _equal(self, wanted: Any, given: Any) -> int:
        """How many fields of both are equal."""
        if isinstance(wanted, dict) and isinstance(given, dict) and wanted and given:
            return sum(self._equal(wanted[key], given[key]) for key in wanted.keys() & given.keys())
        if isinstance(wanted, list) and isinstance(given, list) and wanted and given:
            if not self._any_order:
                pairs = zip(wanted, given, strict=False)
                return sum(self._in_list(*pair) for pair in pairs)
            return self._paired(wanted, given)
        return _size(wanted) if self._is_same(wanted, given) else 0

    def _in_list(self, wanted: Any, given: Any) -> int:
        if isinstance(wanted, list) or isinstance(given, list):
            return int(self._text(wanted, is_row=True) == self._text(given, is_row=True))
        return self._equal(wanted, given)

    def _paired(self, wanted: list[Any], given: list[Any]) -> int:
        """Equal items first, then those objects that share most."""
        left: list[list[Any]] = []
        texts = [
            [self._text(one, isinstance(one, list)) for one in side] for side in (wanted, given)
        ]
        shared = Counter(texts[0]) & Counter(texts[1])
        equal = 0
        for side, names in ((wanted, texts[0]), (given, texts[1])):
            budget, rest = Counter(shared), []
            for one, name in zip(side, names, strict=True):
                if budget[name]:
                    budget[name] -= 1
                    equal += _in_list_size(one) if side is wanted else 0
                elif isinstance(one, dict):
                    rest.append(one)
            left.append(rest[:_PAIRED])
        scores = [
            (self._equal(a, b), i, j) for i, a in enumerate(left[0]) for j, b in enumerate(left[1])
        ]
        taken: tuple[set[int], set[int]] = set(), set()
        for score, i, j in sorted(scores, key=lambda one: (-one[0], one[1], one[2])):
            if score and i not in taken[0] and j not in taken[1]:
                taken[0].add(i)
                taken[1].add(j)
                equal += score
        return equal

    def _difference(self, wanted: Any, given: Any, path: str) -> str:
        """The first field that differs, in words."""
        if isinstance(wanted, dict) and isinstance(given, dict):
            for key in (*wanted, *given):
                place = f"{path}.{key}"
                if key not in given:
                    return f"{place} is missing"
                if key not in wanted:
                    return f"{place} is not wanted"
                if not self._is_same(wanted[key], given[key]):
                    return self._difference(wanted[key], given[key], place)
        said = (shown(json.dumps(one, ensure_ascii=False)) for one in (given, wanted))
        return "{} is {}, not {}".format(path, *said)


def _size(value: Any) -> int:
    """How many fields a value has."""
    if isinstance(value, dict) and value:
        return sum(map(_size, value.values()))
    if isinstance(value, list) and value:
        return sum(map(_in_list_size, value))
    return 1


def _in_list_size(value: Any) -> int:
    return 1 if isinstance(value, list) else _size(value)
