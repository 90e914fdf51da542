"""One iteration of every contender: ours, and the published loops of DNO and ReNO, written anew from their code."""

import time
from collections.abc import Sequence
from itertools import pairwise

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from mira_pl.backbones.base import Condition
from mira_pl.backbones.latent import LatentDiffusion
from mira_pl.drift import ScoreEnergy
from mira_pl.fit import NoiseAlignment, PromptData
from mira_pl.objectives import Objective
from mira_pl.objectives.base import Loss
from mira_pl.objectives.reno import norm_penalty
from mira_pl.problem import Problem
from mira_pl.rewards import ImageReward, Reward, Weighted
from mira_pl.rewards.towers import ClipTowers
from mira_pl.trajectory import Chain, Engine, Trajectory, sample

from .measure import wait

DNO_CLIP, RENO_CLIP, RENO_NORM = 1.0, 0.1, 0.01  # of the public codes


def update(
    problem: Problem, objective: Objective, noise: Tensor, optimizer: Optimizer, anchor: Trajectory | None, tick: int
) -> Loss:
    """Ours, without Lightning: all jobs at once."""
    loss = objective.loss(problem, noise, anchor, tick)
    optimizer.zero_grad()
    loss.value.sum().backward()
    optimizer.step()
    return loss


def update_as_dno(alone: Problem, noise: Tensor, optimizer: Optimizer, preview: bool) -> None:
    """DNO's (TZW1998/Direct-Noise-Optimization, d67386f): one job, every step under torch's checkpoint.

    Args:
        alone: the problem of one job.
        noise: its noise.
        optimizer: of the noise.
        preview: decode x at every sampling step and copy the picture to the CPU, as shipped.
    """
    chain = Chain(alone.backbone, alone.condition, [ScoreEnergy()])
    steps = alone.backbone.schedule.steps
    x = noise[:, steps]
    for index in range(steps):
        injected = chain.noise_at(noise, index)
        x, _, _ = checkpoint(chain.step, x, injected, index, use_reentrant=False, preserve_rng_state=False)
        if preview:
            with torch.no_grad():
                alone.backbone.decode(x.detach()).cpu()
    optimizer.zero_grad()
    (-alone.reward.score(alone.backbone.decode(x), alone.prompts)).sum().backward()
    clip_grad_norm_([noise], DNO_CLIP)
    optimizer.step()


def update_as_reno(alone: Problem, noise: Tensor, optimizer: Optimizer) -> None:
    """ReNO's (ExplainableML/ReNO, bd6f6ac): one job; prompts are encoded anew by the model and by every reward, and
    every reward is read out. The text encoders must be on the device.
    """
    backbone = alone.backbone
    assert isinstance(backbone, LatentDiffusion)
    with torch.no_grad():
        text = backbone.embed(alone.prompts)
    pictures = sample(backbone, Condition(text, text), noise, engine=Engine("full")).images
    total = RENO_NORM * norm_penalty(noise[:, -1]).sum()
    for weight, reward in terms(alone.reward):
        forget(reward)
        value = weight * reward.score(pictures, alone.prompts).sum()
        value.item()  # for its log, at every iteration
        total = total - value
    optimizer.zero_grad()
    total.backward()
    clip_grad_norm_([noise], RENO_CLIP)
    optimizer.step()


def terms(reward: Reward) -> list[tuple[float, Reward]]:
    """The summands of a reward with their weights."""
    return [(term.weight, term.reward) for term in reward.terms] if isinstance(reward, Weighted) else [(1.0, reward)]


def forget(reward: Reward) -> None:
    """Drops what a reward has kept of its prompts."""
    for part in vars(reward).values():
        if isinstance(part, ClipTowers):
            part.texts.clear()
    if isinstance(reward, ImageReward):
        reward.tokens.clear()


class Ticks(L.Callback):
    """When the iterations of a fit began, once the device had done what came before."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: int, batch_idx: int
    ) -> None:
        wait(pl_module.device)
        self.began.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """From one to the next."""
        return [later - earlier for earlier, later in pairwise(self.began)]


def fit_with_lightning(
    problem: Problem,
    objective: Objective,
    updates: int,
    accelerator: str = "cpu",
    callbacks: Sequence[L.Callback] = (),
) -> NoiseAlignment:
    """The same iterations through NoiseAlignment, its columns and its last look, without files."""
    module = NoiseAlignment(
        problem.backbone, problem.reward, objective, iterations=updates, engine=problem.engine.name,
        store_steps=problem.engine.store_steps,
    )  # fmt: skip
    data = PromptData([job.prompt for job in problem.jobs], batch_size=len(problem.jobs))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    quiet |= {"enable_progress_bar": False}
    trainer = L.Trainer(accelerator=accelerator, devices=1, max_epochs=1, callbacks=[*callbacks], **quiet)
    trainer.fit(module, datamodule=data)
    return module
