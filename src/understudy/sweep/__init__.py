"""Many runs at once: cells, schedule, Slurm arrays. Once imported, `status` asks Slurm, too."""

from understudy.pipeline import standing
from understudy.sweep import slurm

standing.SCHEDULERS.append(slurm)
