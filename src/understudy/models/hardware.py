"""What a stage computes on, by its maker's name, as the kernel tells; torch is not needed."""

import platform
import re
from functools import cache
from pathlib import Path


@cache
def name(is_gpu: bool) -> str:
    """Return the name of the GPU here, or of the processor: what speeds are compared within."""
    if is_gpu:
        told = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        found = re.search(r"Model:\s*(.+)", told[0].read_text()) if told else None
        return found[1].strip() if found else "GPU"
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", path.read_text()) if path.is_file() else None
    return found[1].strip() if found else platform.machine()
