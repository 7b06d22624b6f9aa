"""Checks across groups: whether config values agree with one another."""

from understudy.config.accelerate import split_batch
from understudy.config.cluster import check_options
from understudy.config.grader import BOTH, check_grader
from understudy.config.groups import Config
from understudy.config.service import check_service
from understudy.config.source import check_source
from understudy.config.training import PREFERENCES, check_recipe
from understudy.errors import BadInput


def check(config: Config) -> None:
    """Raise BadInput, one sentence, for the first disagreement."""
    check_source("coverage", config.coverage)
    if config.coverage.kind == "playground" and config.coverage.rows is None:
        raise BadInput("coverage=playground needs coverage.rows=…")
    check_source("synthesis", config.synthesis)
    check_source("inference", config.inference)
    _check_weights(config)
    check_recipe(config.trainer, config.model, config.accelerate.kind)
    for service in config.services:
        check_service(service, config.rehearsal.url)
    for name, grader in config.graders.items():
        check_grader(name, grader)
    if config.cluster.kind != "local" and config.rehearsal.url is not None:
        raise BadInput(
            f"cluster={config.cluster.kind} returns before its jobs have run, and the server of "
            "`understudy rehearse` ends with the command; rehearse with cluster=local"
        )
    cluster = config.cluster
    for room, asked in cluster.rooms.items():
        check_options(room, asked)
    hours = {str(room): asked.hours for room, asked in cluster.rooms.items()}
    hours |= {"finetune": cluster.finetune.hours, "inference": cluster.inference.hours}
    for name, given in hours.items():
        if given is not None and given * 3600 <= cluster.lead_seconds:
            raise BadInput(
                f"cluster.{name}.hours={given} is over before cluster.lead_seconds="
                f"{config.cluster.lead_seconds} have passed; a job needs time to work"
            )
    if config.inference.kind != "local":
        _check_ready_made(config)
    elif not config.judge_names:
        raise BadInput("judge=none is for ready-made verdicts (inference=file); choose a judge")
    for role, part in (("synthesis", config.synthesis), ("baseline", config.baseline)):
        if part.kind == "service" and part.service is None:
            raise BadInput(f"{role}.kind=service needs {role}.service; choose {role}=offline")
    is_local = config.inference.kind == "local"
    if is_local and config.inference.engine == "vllm" and config.inference.python is None:
        raise BadInput(
            "inference.engine=vllm needs inference.python=PATH, the python of a virtual "
            "environment with vLLM; or choose inference.engine=transformers"
        )
    if is_local and config.synthesis.kind == "none" and max(config.sizes) > 0:
        raise BadInput(
            f"synthesis=none makes no rows, but round sizes are {config.sizes}; "
            "give data_size=0 or choose a synthesis"
        )
    if config.loop.sizes != sorted(set(config.loop.sizes)):
        raise BadInput(f"loop.sizes={config.loop.sizes} must rise from step to step")
    if is_local and (unknown := sorted(set(config.gate_judges) - set(config.judge_names))):
        raise BadInput(
            f"gate.judges={unknown} are not among the judges {sorted(config.judge_names)} of this "
            "run"
        )
    if both := sorted(config.judges.keys() & config.graders.keys()):
        raise BadInput(f"{both[0]} is the name of a judge and of a grader; rename one of them")
    if is_local:
        _check_thresholds(config)
    if config.gate.judges == []:
        raise BadInput("gate.judges=[] leaves the gate without a judge; use null for all of them")
    if config.gate.kind == "noninferiority" and config.baseline.kind == "none":
        raise BadInput("gate=noninferiority compares with the service; choose a baseline")
    if config.trainer.kind in PREFERENCES:
        _check_preference(config)
    if is_local and config.gate.tail is not None and config.baseline.kind == "none":
        raise BadInput(
            f"gate.tail={config.gate.tail:g} compares coverage@70 with the service's; "
            "choose a baseline"
        )
    if config.trainer.start == "previous" and config.data_size is not None:
        raise BadInput("trainer.start=previous needs the ladder; leave data_size=null")
    if config.trainer.max_length > config.model.context:
        raise BadInput(
            f"trainer.max_length={config.trainer.max_length} exceeds the context of "
            f"model={config.model.name} ({config.model.context} tokens)"
        )
    accelerate, recipe = config.accelerate, config.trainer
    if not accelerate.is_distributed or accelerate.processes is not None:  # else the launch asks
        total = (accelerate.processes or 1) * accelerate.nodes if accelerate.is_distributed else 1
        split_batch(recipe.batch_size, recipe.per_device_batch, recipe.packing, total)
        if recipe.kind in PREFERENCES:
            size = config.preference.batch_size
            split_batch(size, recipe.per_device_batch, False, total, "preference.batch_size")


def _check_weights(config: Config) -> None:
    """What SFT trains is said once: by trainer.kind, or beside what follows it."""
    kind, weights = config.trainer.kind, config.trainer.weights
    if kind in PREFERENCES and weights is None:
        raise BadInput(
            f"trainer.kind={kind} goes on from SFT, and trainer.weights does not say what both "
            "train; give trainer.weights=full or trainer.weights=lora"
        )
    if kind not in PREFERENCES and weights is not None:
        raise BadInput(
            f"trainer.weights={weights} is for trainer.kind={' or '.join(PREFERENCES)}, and it is "
            f"{kind}; leave it out"
        )


def _check_preference(config: Config) -> None:
    """Who labels training pairs is of this run, and no LLM that the gate asks, too."""
    name, gate = config.preference.judge, config.gate_judges
    if name is None:
        return
    if name not in config.judge_names:
        raise BadInput(
            f"preference.judge={name} is not among the judges {sorted(config.judge_names)} of this "
            "run"
        )
    if name not in config.judges:
        return  # a rule: what it calls right is right, whoever learns from it
    labels = config.judges[name]
    for other in gate:
        asked = config.judges.get(other)
        is_alike = asked and (asked.provider, asked.model) == (labels.provider, labels.model)
        if other == name or (is_alike and labels.provider != "offline"):  # whose stand-ins differ
            same = "" if other == name else f" ({other} is the same model)"
            raise BadInput(
                f"preference.judge={name} labels training pairs, so it must not gate what they "
                f"train{same}; choose a panel with another judge and name that in gate.judges, or "
                "let a grader label"
            )


def _check_thresholds(config: Config) -> None:
    """A threshold above 0 needs a judge of the gate that measures what it is about."""
    judges = config.gate_judges
    measured = {metric for judge in judges for metric in config.measures(judge)}
    for metric in BOTH:
        threshold = getattr(config.gate, metric)
        if config.gate.kind == "paper" and threshold > 0 and judges and metric not in measured:
            raise BadInput(
                f"gate.{metric}={threshold:g}, but no judge of the gate measures {metric} "
                f"({', '.join(judges)}: {', '.join(sorted(measured))} only); give gate.{metric}=0 "
                "or a judge that does"
            )


def _check_ready_made(config: Config) -> None:
    """Ready-made answers are judged and nothing else is done."""
    kind = config.inference.kind
    for group, part in (
        ("synthesis", config.synthesis),
        ("baseline", config.baseline),
        ("trainer", config.trainer),
    ):
        if part.kind != "none":
            raise BadInput(
                f"inference={kind} only judges ready-made answers, but {group}.kind={part.kind}; "
                f"choose {group}=none"
                + (" (a service's answers can stand in the same file)" * (group == "baseline"))
            )
