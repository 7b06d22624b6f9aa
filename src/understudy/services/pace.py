"""How many tokens a call will take, as learnt from those before; for limits per minute."""

from understudy.config.service import Service
from understudy.services.base import Reply

_BYTES_PER_TOKEN = 4.0  # the usual rule of thumb, until the service has told


class Pace:
    """How many tokens a call will take, as learnt from those before; for tokens per minute."""

    def __init__(self, service: Service) -> None:
        self._heard = self._spoken = self._bytes = self._calls = 0
        self._most = service.max_output_tokens

    def expected(self, size: int) -> float:
        """Prompt and reply together, of a call whose prompt is so many bytes (`most_input`)."""
        per_byte = self._heard / self._bytes if self._bytes else 1 / _BYTES_PER_TOKEN
        spoken = self._spoken / self._calls if self._calls else self._most
        return size * per_byte + spoken

    def learn(self, size: int, reply: Reply) -> float:
        """Take a reply into account; how many tokens it took."""
        if reply.usage is None:
            return self.expected(size)
        self._bytes += size
        self._heard += reply.usage.input
        self._spoken += reply.usage.output
        self._calls += 1
        return reply.usage.input + reply.usage.output
