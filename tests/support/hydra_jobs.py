"""What Hydra's jobs hand to its sweeper."""

from typing import Any

from hydra.experimental.callback import Callback


class Returned(Callback):
    """Keeps what every job has returned."""

    values: list[Any] = []  # noqa: RUF012, for Hydra makes the instance

    def on_job_end(self, config: Any, job_return: Any, **_: Any) -> None:
        self.values.append(job_return.return_value)
