"""Who may answer a call, in which order."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from understudy.gateway import calls
from understudy.gateway.calls import Call
from understudy.gateway.control import Control

Who = Literal["service", "local"]
Router = Callable[[str], Who]


class Choice(NamedTuple):
    """The order in which to ask: the next one answers when the one before cannot."""

    order: tuple[Who, ...]
    place: float  # of the conversation, from 0 to 100


def choose(control: Control, call: Call, router: Router | None) -> Choice:
    """Whom to ask. What the mode does not let answer is never asked, whatever fails.

    A conversation keeps its side while the share stays, and a growing share moves none back.
    """
    place = calls.place(calls.conversation(call))
    match control.mode:
        case "record" | "shadow":
            return Choice(("service",), place)
        case "local":
            return Choice(("local",), place)
        case "failover":
            return Choice(("service", "local"), place)
        case "split":
            first: Who = "local" if place < control.share else "service"
        case "route":
            assert router is not None, "a control with mode=route comes with its router"
            first = router("\n".join(turn["content"] for turn in calls.texts_of(call.body)))
    return Choice((first, "service" if first == "local" else "local"), place)
