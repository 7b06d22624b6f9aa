"""Which calls belong together: by an id that the client gives, else by how they began.

Many applications send one `user`, or one session, with all of their calls: their own name. Such an
id would put all traffic on one side of a split, and make one cluster of all shadows. One with
which more than half of the recent conversations begin is taken for no id from then on. A beginning
that most of them share is none either: then a conversation is told by its first answer, and its
first call is alone.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Container

from understudy.gateway.calls import ChatCall, beginning, named

_WINDOW = 200  # calls that are remembered
_FEWEST = 20  # calls, before anything is said
_BEGINNINGS = 10  # of conversations with one id, before it is one of too many


class Sides:
    """What recent calls had in common."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._recent: deque[tuple[bytes, ...]] = deque()
        self._calls: Counter[bytes] = Counter()  # of the recent ones, by what a conversation began
        self._begun = 0
        self._shared: set[bytes] = set()

    @property
    def shared(self) -> Container[bytes]:
        """The ids that are no conversation's and no user's."""
        return self._shared

    def key(self, call: ChatCall) -> bytes:
        """Return what stays the same through the conversation of a call."""
        name = named(call, self._shared)
        start, is_first = beginning(call)
        digest = hashlib.blake2b(start, digest_size=8).digest()
        self._see((digest,) if name is None else (digest, name), is_first)
        if name is not None and self._is_common(name):
            field = name.partition(b" ")[0].decode()
            self._share(
                name,
                f"{field} is the same in {self._calls[name]} of the last {self._begun} "
                "conversations, so it tells none apart: how they begin does",
            )
            name = named(call, self._shared)
        if name is not None:
            return name
        if digest not in self._shared and self._is_common(digest):
            self._share(
                digest,
                f"the beginning is the same in {self._calls[digest]} of the last {self._begun} "
                "conversations, so a first call goes to either side by itself",
            )
        if digest not in self._shared:
            return start
        return call.id.encode() if is_first else beginning(call, answers=1)[0]

    def _see(self, marks: tuple[bytes, ...], is_first: bool) -> None:
        self._recent.append(marks if is_first else ())
        self._calls.update(self._recent[-1])
        self._begun += is_first
        if len(self._recent) > _WINDOW:
            gone = self._recent.popleft()
            self._begun -= bool(gone)
            for mark in gone:
                self._calls[mark] -= 1
                if not self._calls[mark]:
                    del self._calls[mark]

    def _is_common(self, mark: bytes) -> bool:
        count = self._calls[mark]
        return len(self._recent) >= _FEWEST and count >= _BEGINNINGS and count > self._begun / 2

    def _share(self, mark: bytes, sentence: str) -> None:
        self._shared.add(mark)
        self._say(sentence)
