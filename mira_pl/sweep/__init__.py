"""Sweeps over fits: Optuna chooses, one `fit` a trial runs in a process of its own, the study keeps what came out."""
