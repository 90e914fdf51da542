"""`align`: the main job from Python, without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch

from .backbones import Backbone
from .fit import Budget, NoiseAlignment, NoiseSearch, PromptData
from .fit.checks import DEFAULTS, check_trainer, processes
from .objectives import Objective
from .rewards import Reward
from .searches import Search
from .types import Images


@dataclass(frozen=True, eq=False)
class Alignment:
    """What `align` returns, job by job in the order of prompts and seeds.

    Attributes:
        images: results, raw, [jobs, 3, h, w].
        start_images: what the frozen model draws from the starting noises.
        records: one mapping a job: reward, drift, CLIPScore, compute and the rest of `records.jsonl`.
        trace: one mapping a job and iteration: the columns of `trace.csv`.
    """

    images: Images
    start_images: Images
    records: list[dict[str, Any]]
    trace: list[dict[str, Any]]


def align(
    prompts: str | Sequence[str],
    backbone: Backbone,
    reward: Reward,
    objective: Objective | Search,
    seeds: Sequence[int] = (0,),
    batch_size: int = 4,
    trainer: Mapping[str, Any] | None = None,
    budget: Budget = Budget(),
    **options: Any,
) -> Alignment:
    """Optimise the noises of one or more prompts, or search among them, in this process.

    Args:
        prompts: one prompt or several.
        backbone: the frozen model.
        reward: a differentiable reward, or any for a search without gradient.
        objective: the method, such as `MIRA(beta=0.2)`, or a search, such as `FK(particles=8)`.
        seeds: every prompt is solved under every seed.
        batch_size: jobs solved together.
        trainer: options of Lightning's Trainer, such as {"accelerator": "cpu"}.
        budget: what a job may cost.
        options: options of `NoiseAlignment` (iterations, lr, clip, engine, ...) or of `NoiseSearch`.

    Raises:
        ValueError: a setting cannot be, or `trainer` asks for several processes.
    """
    settings = {**DEFAULTS, "accelerator": "auto", "devices": 1, **(trainer or {})}
    check_trainer(settings)
    if processes(settings) > 1:
        raise ValueError(
            f"align runs in one process, trainer asks for {processes(settings)}: use `python -m mira_pl fit`"
        )
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    data = PromptData(listed, seeds=seeds, batch_size=batch_size, budget=budget)
    if isinstance(objective, Search):
        module = NoiseSearch(backbone, reward, objective, **options)
    else:
        module = NoiseAlignment(backbone, reward, objective, **options)
    L.Trainer(**settings).fit(module, datamodule=data)
    return Alignment(
        images=torch.cat([result.images for result in module.results]),
        start_images=torch.cat([result.start_images for result in module.results]),
        records=[record for result in module.results for record in result.records],
        trace=[row for result in module.results for row in result.trace],
    )
