"""Sweeps over fits: Optuna chooses, one `fit` a trial runs in a process of its own, the study keeps what came out."""

import warnings

from optuna.exceptions import ExperimentalWarning

warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats, names of metrics
warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator computes")  # how: `figures.importance` knows
