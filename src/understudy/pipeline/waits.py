"""Why a job waits, in Slurm's words, and which setting of ours would let it run."""

import re

# Where waiting helps; of any other reason somebody must hear.
_PASSING = {"None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit"}
_PASSING |= {"Cleaning", "Prolog", "Licenses", "Reservation", "SchedDefer"}
_PASSING |= {"QOSMaxJobsPerUserLimit", "AssocMaxJobsLimit"}

_AGAIN = " and type the same command"
# Reason, as a pattern → what helps; `{}` is the allocation, e.g. `cluster.gpu`.
_REMEDIES = {
    "PartitionTimeLimit|MaxWallDuration": f"lower {{}}.hours or change {{}}.partition,{_AGAIN}",
    "MaxMemPerLimit|MaxMem.*PerJob": f"lower {{}}.memory_gb or change {{}}.partition,{_AGAIN}",
    "PartitionNodeLimit|MaxNode.*PerJob": "lower accelerate.nodes or change "
    f"{{}}.partition,{_AGAIN}",
    "PartitionDown|PartitionInactive": f"wait until it is up, or change {{}}.partition{_AGAIN}",
    "BadConstraints": "no node has all that is asked for: change {}.constraint, gpu_type, gpus, "
    f"cpus or memory_gb,{_AGAIN}",
    "ReqNodeNotAvail|NodeDown": "its nodes are down or reserved: wait, or change "
    f"{{}}.partition{_AGAIN}",
    "InvalidAccount|AccountNotAllowed": f"change {{}}.account or {{}}.partition{_AGAIN}",
    "InvalidQOS|QOSNotAllowed": f"change {{}}.qos or {{}}.partition{_AGAIN}",
    "Minutes|BillingLimit|UsageThreshold": "what the account may use is used up: change "
    f"{{}}.account or {{}}.qos{_AGAIN}",
    "Min.*NotSatisfied": f"ask for more ({{}}.cpus, gpus), or change {{}}.qos{_AGAIN}",
    "PerJob": f"ask for less ({{}}.cpus, gpus, memory_gb), or change {{}}.qos{_AGAIN}",
    "Grp|PerUser|PerAccount|PerNode": "it goes on when other jobs under the same limit have ended; "
    f"else change {{}}.account or {{}}.qos{_AGAIN}",
}
_FOR_EVER = "PartitionTimeLimit|PartitionNodeLimit|MaxMemPerLimit|BadConstraints|Invalid|NotAllowed"
_FOR_EVER += "|PerJob|NotSatisfied"


def is_stuck(reason: str) -> bool:
    """Whether a job that waits for this reason never runs as it is."""
    return re.search(_FOR_EVER, reason) is not None


def sentence(job: str, reason: str, room: str = "") -> str:
    """Return why the job waits and what helps; empty where only time does.

    `room` is the allocation that it asked for: gpu, cpu or api.
    """
    word = reason.strip("()")
    if word in _PASSING:
        return ""
    if "held" in reason.lower():
        return f"job {job}: {reason}; scontrol release {job} lets it go"
    place = f"cluster.{room}" if room else "cluster.gpu, cpu or api"
    helps = next((text for known, text in _REMEDIES.items() if re.search(known, word)), "")
    return f"job {job} waits: {reason} (Slurm's word)" + f"; {helps.format(place, place)}" * bool(
        helps
    )
