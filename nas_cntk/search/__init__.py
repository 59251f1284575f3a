"""The search: proposals by Optuna, scores by exact kernels, everything in the records."""
