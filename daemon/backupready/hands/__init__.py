"""The hands: one documented fix, done as root, and nothing else."""
