"""tool_calls: the answer calls the reference's tools with its arguments, and nothing else.

Where a row offers tools or holds calls, calls are those that inference has read; else what its text
can be read as, in any form.
Calls count in any order, arguments by name. Accepted alternatives stand in the row's
`expected.accepted` as BFCL has them: a list of {tool: {argument: [every right value]}}, one a call,
where "" among the values makes an argument optional and objects have such lists within; else the
reference's own calls are the only right ones. Where it has none, the answer must make none.
As in BFCL (Patil et al. 2025) 1 is 1.0, true is not 1, and "1" is not 1.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from understudy.config.grader import ToolCalls
from understudy.evaluation.graders import RIGHT, Case, Outcome, Rule, Ungraded, shown, wrong
from understudy.evaluation.graders.texts import normalizer
from understudy.playground.sandbox import Sandbox
from understudy.prompts.calls import Call, named, read_calls
from understudy.records import Coverage

_OPTIONAL = ""
_Fits = Callable[[Call], bool]


def make(settings: ToolCalls, train: Sequence[Coverage], sandbox: Sandbox) -> Rule:
    """Return the rule."""
    match = _Matcher(normalizer(settings.ignore))

    def rule(case: Case) -> Outcome:
        orders = _parameters(case.expected.get("tools"))
        accepted = _plain(case.expected.get("accepted"))
        if accepted is None:
            wanted = read_calls(case.reference, orders) if case.wanted is None else case.wanted
            names = [call.name for call in wanted]
            fits: list[_Fits] = [match.same_as(call) for call in wanted]
        else:
            if not _is_accepted(accepted):
                return Ungraded("no_reference", "expected.accepted is no list of calls")
            pairs = [pair for one in accepted for pair in one.items()]
            names = [name for name, _ in pairs]
            fits = [match.accepts(*pair) for pair in pairs]
        known = {*orders, *names}
        said = read_calls(case.answer, known) if case.given is None else case.given
        given = [named(call, orders.get(call.name, ())) for call in said]
        if len(given) != len(fits):
            return wrong(f"it makes {len(given)} calls, not {len(fits)}")
        odd = _unmatched(fits, given)
        if odd is None:
            return RIGHT
        if accepted is not None:  # beside which the reference itself is right, too
            again = read_calls(case.reference, known) if case.wanted is None else case.wanted
            own = [match.same_as(call) for call in again]
            if len(own) == len(given) and _unmatched(own, given) is None:
                return RIGHT
        shown_as = json.dumps(given[odd].arguments, ensure_ascii=False, default=str)
        return wrong(f"{given[odd].name}({shown(shown_as)[1:-1]}) is not what was wanted")

    return rule


def _plain(value: Any) -> Any:
    """A value that a file holds as the text of JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _is_accepted(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and all(isinstance(inner, dict) for inner in one.values())
        for one in value
    )


def _parameters(tools: Any) -> dict[str, list[str]]:
    """Tool → the names of its parameters, in order; {} where tools are not given."""
    found = {}
    tools = _plain(tools)
    for tool in tools if isinstance(tools, list) else ():
        about = tool.get("function", tool) if isinstance(tool, dict) else {}
        if isinstance(about, dict) and isinstance(name := about.get("name"), str):
            schema = about.get("parameters") or about.get("input_schema") or {}
            names = schema.get("properties") if isinstance(schema, dict) else None
            found[name] = list(names) if isinstance(names, dict) else []
    return found


class _Matcher:
    """Whether a call is one that was wanted."""

    def __init__(self, normal: Callable[[str], str]) -> None:
        self._normal = normal

    def same_as(self, wanted: Call) -> _Fits:
        def fits(given: Call) -> bool:
            return given.name == wanted.name and self._equal(given.arguments, wanted.arguments)

        return fits

    def accepts(self, name: str, arguments: Mapping[str, Any]) -> _Fits:
        def fits(given: Call) -> bool:
            return given.name == name and self._within(given.arguments, arguments)

        return fits

    def _within(self, given: Mapping[str, Any], accepted: Mapping[str, Any]) -> bool:
        """Each argument has one of its values, and only optional ones lack."""
        if not given.keys() <= accepted.keys():
            return False
        for name, values in accepted.items():
            choices = values if isinstance(values, list) else [values]
            choices = choices or [_OPTIONAL, []]  # no value is listed: none, or an empty list
            if name in given:
                if not any(self._is(given[name], choice) for choice in choices):
                    return False
            elif _OPTIONAL not in choices:
                return False
        return True

    def _is(self, given: Any, wanted: Any) -> bool:
        """Whether a value is an accepted one, in which objects have lists of values."""
        if isinstance(given, dict) and isinstance(wanted, dict):
            return self._within(given, wanted)
        if isinstance(given, list) and isinstance(wanted, list):
            return len(given) == len(wanted) and all(map(self._is, given, wanted))
        return self._equal(given, wanted)

    def _equal(self, given: Any, wanted: Any) -> bool:
        if isinstance(given, dict) and isinstance(wanted, dict):
            return given.keys() == wanted.keys() and all(
                self._equal(given[key], wanted[key]) for key in given
            )
        if isinstance(given, list) and isinstance(wanted, list):
            return len(given) == len(wanted) and all(map(self._equal, given, wanted))
        if isinstance(given, str) and isinstance(wanted, str):
            return given == wanted or self._normal(given) == self._normal(wanted)
        is_number = [isinstance(one, int | float) and not isinstance(one, bool)
                     for one in (given, wanted)]  # fmt: skip
        return bool(given == wanted) and (all(is_number) or type(given) is type(wanted))


def _unmatched(fits: Sequence[_Fits], given: Sequence[Call]) -> int | None:
    """A call that is left over when each wanted one takes one (Kuhn 1955); None: all are taken."""
    takes: dict[int, int] = {}  # wanted -> given

    def place(call: int, tried: set[int]) -> bool:
        for wanted, is_fit in enumerate(fits):
            if wanted not in tried and is_fit(given[call]):
                tried.add(wanted)
                if wanted not in takes or place(takes[wanted], tried):
                    takes[wanted] = call
                    return True
        return False

    return next((call for call in range(len(given)) if not place(call, set())), None)
