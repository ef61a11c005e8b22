"""Studies on a SLURM cluster: tasks, their submission, and how they stand, read from files and from squeue."""
