"""`data.batch_size: auto`: how many jobs at once, settled before anything is written or shared out.

The size decides how jobs are shared out, and digits, so a run keeps the one it began with: `config.yaml` names it.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..identity import config_hash
from ..memory import affordable_jobs
from ..problem import Problem
from ..runs import RunFolder, write_atomic
from ..types import Job
from .data import PromptData
from .module import NoiseAlignment
from .solver import Solver

ON_CPU = 4  # jobs at most, as without `auto`


def settled(
    config: dict[str, Any], module: Solver, data: PromptData, run: RunFolder, device: torch.device, processes: int
) -> dict[str, Any]:
    """The configuration with a number: that of the run that goes on, or as many jobs as fit, at most a process's share.

    What fits is measured once for a device, a model and a reward, and remembered.

    Raises:
        ValueError: the module is a search, of which it is not known what its jobs take.
    """
    begun = as_begun(config, run)
    if begun["data"]["batch_size"] != "auto":
        return begun
    if not isinstance(module, NoiseAlignment):
        raise ValueError("data.batch_size auto is for NoiseAlignment: give a search a number")
    share = -(-len(data.jobs) // processes)
    jobs = data.jobs[: min(share, ON_CPU) if device.type == "cpu" else share]
    place, known = place_of(config, device, processes), remembered()
    if place not in known:
        known[place] = fitting(module, jobs, device, processes if device.type == "cpu" else 1)
        with contextlib.suppress(OSError):  # the fit does without
            write_atomic(memory_file(), json.dumps(known, indent=1).encode())
    return with_size(config, min(known[place], len(jobs)))


def as_begun(config: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    """With the number of the run in the folder, if that is one of this configuration; else as it is."""
    if config["data"]["batch_size"] == "auto" and run.config_path.exists():
        kept = run.config()
        data = kept.get("data")
        begun = with_size(config, data.get("batch_size") if isinstance(data, dict) else None)
        if config_hash(begun) == config_hash(kept):
            return begun
    return dict(config)


def with_size(config: Mapping[str, Any], size: Any) -> dict[str, Any]:
    """With this size of a batch."""
    return {**config, "data": {**config["data"], "batch_size": size}}


def fitting(module: NoiseAlignment, jobs: list[Job], device: torch.device, processes: int) -> int:
    """Jobs that fit by the bytes of one; half of them if an iteration then runs out of memory after all."""
    module.backbone.to(device)
    module.reward = module.reward.to(device)
    module.clip = None if module.clip is None else module.clip.to(device)
    one, noise = Problem.of(module.backbone, module.reward, jobs[:1]), start(module, jobs[:1], device)
    kept = module.backbone.schedule.steps - 1 if module.engine == "full" else module.store_steps
    beside = kept if isinstance(kept, int) else 0  # `auto` takes what the batch leaves
    size = affordable_jobs(one, noise, beside, processes * module.objective.candidates)
    if not gets_through(module, jobs[:size], device, processes):
        size = max(1, min(size, len(jobs)) // 2)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    module.spent_since_last()  # measuring is no part of the method
    return size


def gets_through(module: NoiseAlignment, jobs: list[Job], device: torch.device, processes: int) -> bool:
    """Whether there is memory for an iteration of these jobs."""
    noise = start(module, jobs, device).requires_grad_()
    try:
        module.objective.loss(module.pose(jobs, noise, processes), noise, None, 0).value.sum().backward()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def start(module: NoiseAlignment, jobs: list[Job], device: torch.device) -> Tensor:
    """What these jobs learn, on the device."""
    return module.objective.start(jobs, module.backbone.noise_shape).to(device)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator of torch, on a card or not, had nothing left."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


def place_of(config: Mapping[str, Any], device: torch.device, processes: int) -> str:
    """What a size is remembered by: device, engine, model, reward and method."""
    model = config["model"].get("init_args", config["model"])
    parts = {name: model[name] for name in ("backbone", "reward")} | {"method": model["objective"]["class_path"]}
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU for {processes}"
    return f"{card}, {model['engine']}, {model['store_steps']}, {config_hash({'model': parts})}"


def remembered() -> dict[str, int]:
    """Sizes by place; a damaged file is as good as none."""
    try:
        found = json.loads(memory_file().read_text())
    except (OSError, ValueError):
        found = {}
    return {place: size for place, size in found.items() if isinstance(size, int) and size > 0}


def memory_file() -> Path:
    """In the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mira_pl" / "batch_sizes.json"
