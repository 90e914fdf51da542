"""How Lightning's Trainer may be set: what would average, round, cut short or share out noises twice is refused."""

import os
from collections.abc import Mapping
from typing import Any

import torch

DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": 0,
    "max_epochs": 1,  # the module sets the number of rounds once the number of processes is known
}
PRECISIONS = (None, "32-true", 32, "32", "bf16-mixed", "16-mixed")
INDEPENDENT = "independent_ddp"
CUT = "cuts jobs short: use model.iterations (rounds of a search: model.search.rounds) and data.limit"
FIXED = {
    "gradient_clip_val": (None, "mixes the jobs of a batch: use model.clip_norm, which clips each job"),
    "accumulate_grad_batches": (1, "skips updates, of which every iteration is one: use data.batch_size"),
    "use_distributed_sampler": (False, "takes iterations from every process: leave it out, jobs are shared out anyway"),
    "limit_train_batches": (None, CUT),
    "overfit_batches": (0.0, CUT),
    "max_steps": (-1, CUT),
    "max_epochs": (1, CUT),
    "max_time": (None, CUT),
    "fast_dev_run": (False, CUT),
}
"""Trainer settings that must stay as they are, and what another value does."""


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse Trainer settings under which noises would be averaged, rounded, cut short, or shared out twice.

    Raises:
        ValueError: says which, and what to use instead.
    """
    if trainer.get("precision") not in PRECISIONS:
        raise ValueError(
            f"trainer.precision {trainer['precision']!r} would round the noise: use 32-true, bf16-mixed or 16-mixed, "
            "and model.backbone.dtype for the weights"
        )
    for name, (value, harm) in FIXED.items():
        if trainer.get(name, value) != value:
            raise ValueError(f"trainer.{name} {trainer[name]!r} {harm}")


def strategy(trainer: Mapping[str, Any]) -> Any:
    """The strategy to run under: `independent_ddp` instead of `auto` where there is more than one process.

    Raises:
        ValueError: another one was asked for: they average gradients, which here are those of different jobs.
    """
    given = trainer["strategy"]
    if given == "auto":
        return INDEPENDENT if processes(trainer) > 1 else given
    if given == INDEPENDENT or (isinstance(given, Mapping) and given["class_path"].endswith(".IndependentDDP")):
        return given
    raise ValueError(
        f"trainer.strategy {given!r} averages the gradients of different jobs: leave it out, or use {INDEPENDENT}"
    )


def processes(trainer: Mapping[str, Any]) -> int:
    """How many processes the Trainer's settings and the launcher ask for.

    Raises:
        ValueError: the devices are no number of devices.
    """
    nodes, launched = int(trainer.get("num_nodes") or 1), int(os.environ.get("WORLD_SIZE", "1"))
    return max(nodes * _devices(trainer["devices"], trainer["accelerator"]), launched)


def _devices(given: list[int] | str | int, accelerator: Any) -> int:
    if isinstance(given, list):
        return len(given)
    if "," in str(given):
        return len([part for part in str(given).split(",") if part.strip()])
    if given in ("auto", "-1", -1):
        return torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 1
    try:
        count = int(given)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(
            f"the trainer cannot run on devices={given!r}: give how many, a list of GPUs such as [0, 1], or auto"
        )
    return count
