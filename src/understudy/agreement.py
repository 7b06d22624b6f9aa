"""Checks that config values agree with one another; what one value may be is in `config.py`."""

from typing import TYPE_CHECKING

from understudy.errors import BadInput

if TYPE_CHECKING:
    from understudy.config import Config


def check(config: "Config") -> None:
    """Raise BadInput, one sentence, for the first disagreement."""
    for role, part in (("synthesis", config.synthesis), ("baseline", config.baseline)):
        if part.kind == "service" and part.service is None:
            raise BadInput(f"{role}.kind=service needs {role}.service; choose {role}=offline")
    if config.synthesis.kind == "none" and max(config.sizes) > 0:
        raise BadInput(
            f"synthesis=none makes no rows, but round sizes are {config.sizes}; "
            "give data_size=0 or choose a synthesis"
        )
    if config.loop.sizes != sorted(set(config.loop.sizes)):
        raise BadInput(f"loop.sizes={config.loop.sizes} must rise from step to step")
    if unknown := sorted(set(config.gate_judges) - set(config.judges)):
        raise BadInput(
            f"gate.judges={unknown} are not among the judges {sorted(config.judges)} of this run"
        )
    if not config.gate_judges:
        raise BadInput("gate.judges=[] leaves the gate without a judge; use null for all of them")
    if config.trainer.start == "previous" and config.data_size is not None:
        raise BadInput("trainer.start=previous needs the ladder; leave data_size=null")
    if config.trainer.max_length > config.model.context:
        raise BadInput(
            f"trainer.max_length={config.trainer.max_length} exceeds the context of "
            f"model={config.model.name} ({config.model.context} tokens)"
        )
    if (
        config.trainer.per_device_batch
        and config.trainer.batch_size % config.trainer.per_device_batch
    ):
        raise BadInput(
            f"trainer.batch_size={config.trainer.batch_size} is no multiple of "
            f"trainer.per_device_batch={config.trainer.per_device_batch}"
        )
