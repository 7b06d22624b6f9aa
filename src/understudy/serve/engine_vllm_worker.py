"""Start vLLM's own server: `PYTHON -P engine_vllm_worker.py [ARGUMENT ...]`.

PYTHON is that of vLLM's own virtual environment, where understudy is not installed: nothing but
vLLM and the standard library is imported. Without arguments it only says whether vLLM is there.
"""

import importlib.util
import os
import runpy
import sys

NO_VLLM = (
    "serve.engine=vllm: {python} has no vllm; make a virtual environment for it "
    "(python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm==0.33.0) and give "
    "serve.python=~/vllm/bin/python"
)


def main() -> int:
    """Exit code: 2 without vLLM, with one sentence on stderr."""
    if importlib.util.find_spec("vllm") is None:
        print(NO_VLLM.format(python=sys.executable), file=sys.stderr)
        return 2
    if len(sys.argv) > 1:
        _die_with_parent()
        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
    return 0


def _die_with_parent() -> None:
    """Ask Linux to end this process, and free the GPU, when the one that started it ends."""
    if sys.platform == "linux":
        import ctypes

        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM
        if os.getppid() != parent:  # it died before the call
            raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
