"""Jobs of a Slurm cluster. Its entry is `drivers.jobs.slurm.driver`."""
