"""What `/metrics` tells Prometheus about a server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Meters:
    """The counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "understudy_requests", "Chat completions by HTTP status", ["status"], registry=own
        )
        self.tokens = Counter(
            "understudy_tokens", "Tokens read and generated", ["kind"], registry=own
        )
        self.cancelled = Counter(
            "understudy_cancelled", "Requests whose client left before the end", registry=own
        )
        self.answers = Gauge(
            "understudy_answers", "Answers that are decoded or wait for it", registry=own
        )
        self.first = Histogram(
            *("understudy_first_piece_seconds", "From the request to a stream's first piece"),
            buckets=_SECONDS,
            registry=own,
        )
        self.whole = Histogram(
            *("understudy_request_seconds", "From the request to the end of its answers"),
            buckets=_SECONDS,
            registry=own,
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
