"""Who runs: our engines, and the loops of DNO and ReNO, on the same model, T, guidance, resolution and precision."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from mira_pl.memory import affordable_steps
from mira_pl.noise import draw
from mira_pl.objectives import DNO, MIRA, Objective
from mira_pl.problem import Problem
from mira_pl.prompts import make_jobs
from mira_pl.trajectory import Engine

from .loops import Ticks, fit_with_lightning, update, update_as_dno, update_as_reno
from .models import MODELS, Weights, encode

THEIRS = ("dno_shipped", "dno_mended", "reno")
NAMES = ("ours", "full", "checkpoint", "walk", *THEIRS, "lightning")
OBJECTIVES: dict[str, Callable[[], Objective]] = {"dno": DNO, "mira": MIRA}
LR = 0.01


@dataclass(frozen=True)
class Setting:
    """What is equal for all contenders of a group.

    Attributes:
        model: one of `models.MODELS`.
        steps: T.
        prompts: that ours solve at once; the published loops take one at a time.
        weights: size, device and precision.
        objective: of ours; the loops of others ascend the plain reward.
    """

    model: str
    steps: int
    prompts: int
    weights: Weights
    objective: str = "dno"

    @property
    def name(self) -> str:
        """Of the group."""
        tiny = "tiny " if self.weights.size == "tiny" else ""
        return f"{tiny}{self.model} T={self.steps} prompts={self.prompts}"

    @property
    def eager(self) -> "Setting":
        """For the loops of others, which neither compile nor lay out anything."""
        return replace(self, weights=replace(self.weights, compile="none", channels_last=False))

    def problem(self, prompts: int) -> Problem:
        """Built anew: models of one contender are gone before the next one comes."""
        model, device = MODELS[self.model], self.weights.device
        backbone = model.backbone(self.weights, self.steps, model.guidance)
        jobs = make_jobs(["a white cat"], range(prompts))
        condition = encode(backbone, [job.prompt for job in jobs])
        return Problem(backbone, model.reward(self.weights).to(device), jobs, condition)


@dataclass(frozen=True)
class Contender:
    """One iteration, and what it does beyond what is needed.

    Attributes:
        prompts: that an iteration brings forward.
        iterate: runs one.
        recomputed: sampling steps computed twice.
        previews: pictures decoded on the way.
        clock: seconds of so many iterations in a row, where they cannot be started one by one.
    """

    prompts: int
    iterate: Callable[[], object]
    recomputed: int
    previews: int = 0
    clock: Callable[[int], list[float]] | None = None


def enter(name: str, setting: Setting) -> Contender:
    """The contender of that name, ready to run."""
    if name in ("dno_shipped", "dno_mended"):
        return as_dno(setting, shipped=name == "dno_shipped")
    if name == "lightning":
        return through_lightning(setting)
    return as_reno(setting) if name == "reno" else ours(setting, name)


def plays(name: str, setting: Setting) -> bool:
    """ReNO is for one-step models, DNO's loop for the others."""
    return name not in (("dno_shipped", "dno_mended") if setting.steps == 1 else ("reno",))


def ours(setting: Setting, name: str) -> Contender:
    """An engine that keeps no step (`full`: every one), or, as `ours`, checkpointing with as many as fit."""
    problem, objective = setting.problem(setting.prompts), OBJECTIVES[setting.objective]()
    noise = start(problem, setting)
    stored = {"full": setting.steps, "ours": affordable(problem, noise)}.get(name, 0)
    problem = replace(problem, engine=Engine("checkpoint" if name == "ours" else name, stored))  # type: ignore[arg-type]
    optimizer, anchor = torch.optim.AdamW([noise], lr=LR), None
    with torch.no_grad():
        anchor = problem.attempt(noise, objective.measures(None), keep_eps=True).trajectory
    run = partial(update, problem, objective, noise, optimizer, anchor, 1)
    return Contender(setting.prompts, run, setting.steps - stored)


def through_lightning(setting: Setting) -> Contender:
    """`ours` by NoiseAlignment with the columns of its trace; an iteration on its own is a whole fit."""
    problem = setting.problem(setting.prompts)
    stored = affordable(problem, start(problem, setting))
    problem = replace(problem, engine=Engine("checkpoint", stored))
    objective = OBJECTIVES[setting.objective]()
    accelerator = "gpu" if setting.weights.device.type == "cuda" else "cpu"

    def clock(count: int) -> list[float]:
        ticks = Ticks()
        fit_with_lightning(problem, objective, count + 3, accelerator, [ticks])
        return ticks.seconds[2:]

    run = partial(fit_with_lightning, problem, objective, 1, accelerator)
    return Contender(setting.prompts, run, setting.steps - stored, clock=clock)


def as_dno(setting: Setting, shipped: bool) -> Contender:
    """As shipped: autocast over float32 weights, and previews; mended: neither."""
    weights = replace(setting.weights, dtype="float32") if shipped else setting.weights
    problem = replace(setting, weights=weights).problem(1)
    noise = start(problem, setting)
    optimizer = torch.optim.AdamW([noise], lr=LR)
    low = getattr(torch, setting.weights.dtype)

    def iterate() -> None:
        with torch.autocast(setting.weights.device.type, low, enabled=shipped and low != torch.float32):
            update_as_dno(problem, noise, optimizer, preview=shipped)

    return Contender(1, iterate, setting.steps, setting.steps if shipped else 0)


def as_reno(setting: Setting) -> Contender:
    """With its text encoders on the device, for it never stops encoding."""
    problem = setting.problem(1)
    for encoder in problem.backbone.encoders:  # type: ignore[attr-defined]
        encoder.to(setting.weights.device)
    noise = start(problem, setting)
    optimizer = torch.optim.SGD([noise], lr=5.0, momentum=0.9, nesterov=True)
    return Contender(1, partial(update_as_reno, problem, noise, optimizer), 0)


def start(problem: Problem, setting: Setting) -> torch.nn.Parameter:
    """The noise of the jobs, on the device."""
    return torch.nn.Parameter(draw(problem.jobs, problem.backbone.noise_shape).to(setting.weights.device))


def affordable(problem: Problem, noise: torch.Tensor) -> int:
    """Steps that `store_steps: auto` keeps."""
    return affordable_steps(problem.backbone, problem.condition, noise)
