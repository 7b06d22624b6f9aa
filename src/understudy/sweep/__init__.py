"""Many runs at once: cells, schedule, Slurm arrays."""
