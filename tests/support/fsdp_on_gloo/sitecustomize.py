"""Lets a rank shard with FSDP on a CPU, which Accelerate has no row for; Gloo and torch can.

Python imports this at its start when the directory is on PYTHONPATH.
"""

import os

if "RANK" in os.environ:
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    def _prepare_backend(self: PartialState, *_: object, **__: object) -> tuple[str, object]:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        return "gloo", DistributedType.MULTI_GPU

    PartialState._prepare_backend = _prepare_backend
