"""What jobs need of the environment of the command: many sites hand them a clean one.

What is no secret stands in a script that every job sources, before `cluster.setup`. Keys are never
written: where `SBATCH_EXPORT` keeps the environment back, sbatch is told by name which to hand on.
"""

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from understudy.config import Config

# Where libraries find their files, how they talk and are tuned; what a job's node sets is not here.
_WANTED = re.compile(
    "UNDERSTUDY_|HF_|HUGGINGFACE_|TRANSFORMERS_|XDG_.*_HOME$|TORCH_|TORCHINDUCTOR_|TRITON_|CUDA_HOME$"
    "|NCCL_|GLOO_|DS_|VLLM_|WANDB_|MLFLOW_|GOOGLE_|SSL_CERT_|REQUESTS_CA_BUNDLE$|CURL_CA_BUNDLE$"
    "|LANG$|LC_|PYTHONUTF8$|SLURM_CONF$|(?:https?|all|no)_proxy$|(?:HTTPS?|ALL|NO)_PROXY$"
)
_SECRET = re.compile(
    "KEY|TOKEN|SECRET|PASSW|(?<!no)_proxy$|(?<!NO)_PROXY$"
)  # a proxy's: in its URL
_SEARCHED = ("PATH", "LD_LIBRARY_PATH")  # behind the places that a job searches itself
_OF_CONFIG = re.compile(r"\$\{oc\.env:\s*(\w+)")


def names(configs: Iterable[Config], words: list[str]) -> list[str]:
    """Return the variables of this process that a job needs; `words` are those of the command."""
    wanted = {service.key_env for config in configs for service in config.services}
    texts = list(words)
    if "--config-dir" in words:
        folder = Path(words[words.index("--config-dir") + 1]).expanduser()
        texts += [path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")]
    wanted |= {name for text in texts for name in _OF_CONFIG.findall(text)}
    return sorted(name for name in os.environ if name in wanted or _WANTED.match(name))


def options(needed: list[str]) -> list[str]:
    """Return what sbatch must be told so that keys reach a job; nothing where all does."""
    given = os.environ.get("SBATCH_EXPORT", "ALL").split(",")
    secrets = [name for name in needed if _SECRET.search(name)]
    if "ALL" in given or not secrets:
        return []
    return [f"--export={','.join([*(w for w in given if w not in ('', 'NIL', 'NONE')), *secrets])}"]


def script(needed: list[str], setup: Path | None) -> str:
    """Return what a job sources first: plain variables, the site's own script, our directory."""
    lines = ["# The environment of the command that submitted these jobs; written by understudy"]
    for name in needed:
        if not _SECRET.search(name):
            lines.append(f"export {name}={shlex.quote(os.environ[name])}")
    for name in _SEARCHED:
        if value := os.environ.get(name):
            ours = shlex.quote(value)
            lines.append(
                f'case ":${name}:" in *:{ours}:*) ;; *) {name}=${{{name}:+${name}:}}{ours} ;; esac'
            )
            lines.append(f"export {name}")
    umask = os.umask(0)
    os.umask(umask)
    lines.append(f"umask {umask:04o}")
    if setup is not None:
        lines.append(f". {shlex.quote(str(setup))}")
    here = shlex.quote(os.getcwd())
    lines.append(f"cd {here} || echo understudy: {here} is not on this node >&2")
    return "\n".join(lines) + "\n"
