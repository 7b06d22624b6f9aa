"""Export a run's model: write it, prove that it is the model that was judged, then publish it.

Everything is written under a hidden name beside the target and renamed when parity has passed. A
refused export leaves a report, `export-parity.json` beside run.json, and nothing else.
"""

import gc
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from understudy.config.export import ExportConfig
from understudy.data.shots import Shots
from understudy.errors import BadInput, UnderstudyError
from understudy.export import card, checks, gguf, merge, parity, server
from understudy.export.parity import Report
from understudy.models import gguf as models
from understudy.models import load
from understudy.pipeline.chosen import Chosen
from understudy.store.artifacts import write_atomically

REPORT = "export-parity.json"


@dataclass(frozen=True)
class Exported:
    """What was written, and what its parity check could not measure."""

    path: Path
    report: Report


def export(chosen: Chosen, settings: ExportConfig, to: Path, is_forced: bool) -> Exported:
    """Write the model to `to`.

    Raises BadInput, EnvironmentFailed, and UnderstudyError (exit 1) when parity says no.
    """
    if to.exists() and (to.is_file() or any(to.iterdir())):
        if not (to / "parity.json").is_file():
            raise BadInput(f"--to {to} holds no earlier export; give another directory")
        if not is_forced:
            raise BadInput(f"--to {to} is not empty; give another directory, or --force")
    if settings.what == "gguf":
        gguf.check(settings.llama_cpp)
    if settings.what == "adapter":
        merge.check_adapter(chosen.config, chosen.finetuned)
    load.quiet()
    load.use_threads(chosen.config.cluster.threads)
    with _hidden(to) as part:
        ready = replace(chosen, config=models.dequantized(chosen.config, chosen.run.root))
        report = _write(ready, settings, part)
        text = json.dumps(report.to_dict(), indent=1, allow_nan=False)
        record = chosen.run.path.parent / REPORT
        write_atomically(record, text)
        if report.cause is not None:
            raise UnderstudyError(f"not exported: {report.cause} (measurements: {record})")
        write_atomically(part / "parity.json", text)
        write_atomically(part / "README.md", card.card(chosen, settings, report))
        _publish(part, to)
    return Exported(to, report)


def _write(chosen: Chosen, settings: ExportConfig, part: Path) -> Report:
    """Write what is wanted to `part`, and check it."""
    import torch

    config, report = chosen.config, Report()
    dtype = merge.dtype_of(settings.dtype)
    computed = dtype if load.device().type == "cuda" else load.dtype()
    prompts, tokens = settings.parity.prompts, settings.parity.tokens
    first = Shots.read(chosen.stage("inference").out)
    then = checks.judged(config, chosen.finetuned, chosen.split, prompts, tokens, computed, first)
    if first is not None:
        first.write(part)
    model = part / "merged" if settings.what == "gguf" else part
    if settings.what == "adapter":
        merge.adapter(config, merge.check_adapter(config, chosen.finetuned), model)
    else:
        merge.merged(config, chosen.finetuned, dtype, model)
    is_right = checks.check_files(then, model, dtype, computed, report)
    gc.collect()  # a server, another process, needs the room that our models took
    torch.cuda.empty_cache()
    if is_right:
        if settings.what == "merged":
            _check_server(then, model, dtype, settings, report)
        elif settings.what == "adapter":
            report.unmeasured["server"] = "an adapter is served by whoever loads it onto its base"
    if settings.what == "gguf" and report.cause is None:
        _write_gguf(then, model, dtype, settings, part, report)
    return report


def _check_server(
    then: checks.Judged, model: Path, dtype: object, settings: ExportConfig, report: Report
) -> None:
    """Ask `understudy serve` on the exported directory."""
    if settings.parity.server == "none":
        report.unmeasured["server"] = "export.parity.server=none"
        return
    needed = ("starlette", "uvicorn", "prometheus_client")
    if missing := [name for name in needed if find_spec(name) is None]:
        why = f"it needs {missing[0]}: pip install 'understudy[serve]'"
        report.unmeasured["server"] = why
        return
    port = server.free_port()
    allowed = parity.tolerance(load.dtype_name(dtype), load.dtype_name(load.dtype()))
    serve = [sys.executable, "-m", "understudy", "serve", str(model), "--port", str(port)]
    seconds = settings.parity.server_seconds
    with server.running(serve, port, model / "server.log", seconds) as url:
        checks.check_server(then, url, "server", allowed, report, then.asked)
    (model / "server.log").unlink()


def _write_gguf(
    then: checks.Judged,
    model: Path,
    dtype: object,
    settings: ExportConfig,
    part: Path,
    report: Report,
) -> None:
    """Convert the merged model, which is right, and ask llama.cpp's server on the result."""
    llama_cpp, kind = gguf.check(settings.llama_cpp), load.dtype_name(dtype)
    file = part / f"{then.config.model.name}-{kind}.gguf"
    gguf.convert(model, kind, llama_cpp, settings.python, file)
    shutil.rmtree(model)
    if (program := gguf.server(llama_cpp)) is None:
        report.unmeasured["llama.cpp"] = (
            f"{llama_cpp} has no build/bin/llama-server: cmake -B build && "
            "cmake --build build --target llama-server"
        )
        return
    port = server.free_port()
    command = [str(program), "-m", str(file), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--jinja", "-np", "1", "-c", str(then.config.model.context)]
    log, seconds = part / "server.log", settings.parity.server_seconds
    with server.running(command, port, log, seconds) as url:
        readings = server.read(url, then.rows, then.tokenizer.chat_template)
        cause = parity.token_ids(then.readings, readings, then.name)
        cause = cause and f"llama.cpp: {cause}"
        if report.found("llama.cpp, token ids", {"prompts": len(readings)}, cause):
            checks.check_server(then, url, "llama.cpp", parity.FOREIGN, report)
    log.unlink()


@contextmanager
def _hidden(to: Path) -> Iterator[Path]:
    """A directory beside `to` that is gone at the end, unless it has been renamed."""
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{to.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _publish(part: Path, to: Path) -> None:
    """Rename; what was there before is away only when the new files stand in its place."""
    for file in filter(Path.is_file, part.iterdir()):  # safetensors writes for its owner alone
        file.chmod((part / "parity.json").stat().st_mode)
    old = to.with_name(f".{to.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if to.exists():
        to.rename(old)
    part.rename(to)
    shutil.rmtree(old, ignore_errors=True)
