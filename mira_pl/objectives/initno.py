"""InitNO: a starting noise in which the denoiser already sees every object of the prompt (Guo et al. 2024)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..backbones.base import Backbone
from ..noise import draw, redraw
from ..problem import Outcome, Problem
from ..ranges import positive
from ..rewards.base import BlackBox, Reward
from ..trajectory import Trajectory
from ..types import Job, Latents, Noise, PerJob
from .attention_loss import attention_loss
from .base import NOTHING, Learned, Loss, Memory, Objective

PHRASE_ENDS = r"\b(?:and|with|of|in|on|at|next to|under|over|by|near|wearing|holding)\b|[,.;:]"
NO_OBJECTS = {"image", "picture", "photo", "photograph", "painting", "drawing"}
KL_STEPS = 100  # the public loop has no end, and hangs on some prompts


@dataclass(frozen=True)
class InitNO(Objective):
    """x_T <- x_T exp(log_var / 2) + mu, learned on the attention maps of one call of the denoiser at the first step.

    An iteration is a round: `steps` updates by Adam on mu and log_var from a fresh x_T, each followed by updates on
    KL(N(mu, exp(log_var)) || N(0, 1)) until it is below `largest_kl`. A job is done once the loss reaches its targets;
    if no round gets there, the one after the last starts from the best x_T with `last_steps`. So a fit takes
    `iterations` = `rounds` + 1, and a round as many updates as the slowest job of its batch. The reward is logged and
    nothing else. This is the noise part alone: the public code also moves the latents while it samples. Defaults are
    the public code's (`pipeline_sd_initno.py`).

    Attributes:
        words: the objects, those that occur in a prompt; null takes the last word of every phrase of the prompt.
        rounds: fresh starts.
        steps: updates a round.
        last_steps: updates from the best start.
        lr: learning rate of Adam (eps 1e-3).
        cross_target: the loss of the weakest object must fall below it,
        own_target: and the overlap of the objects below this.
        largest_kl: mean over elements.
        side: of the attention maps in pixels; null is the model's side nearest to a quarter of the latents.
    """

    noises: ClassVar[Learned] = "initial"
    needs_gradient: ClassVar[bool] = False

    words: list[str] | None = None
    rounds: int = 5
    steps: int = 10
    last_steps: int = 50
    lr: float = 0.01
    cross_target: float = 0.2
    own_target: float = 0.3
    largest_kl: float = 0.001
    side: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(rounds=self.rounds, steps=self.steps, last_steps=self.last_steps)
        positive(lr=self.lr, largest_kl=self.largest_kl)

    def check(self, backbone: Backbone, reward: Reward, clip: Reward | None = None) -> None:
        super().check(backbone, reward, clip)
        if not backbone.shows_attention:
            raise ValueError(
                f"InitNO reads attention maps, which {type(backbone).__name__} does not give: take StableDiffusion, "
                "neither compiled nor annealed"
            )

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        """Half the squared distance to the noise that the round finds: its update by a step of 1 is that noise."""
        outcome = self.attempt(problem, noise, anchor)
        if anchor is None:
            nothing = torch.zeros_like(outcome.reward)
            memory = {"done": nothing.bool(), "score": nothing + torch.inf, "round": nothing.long()}
        target, memory = self.turn(problem, noise.detach(), tick, memory)
        return Loss((noise - target).square().flatten(1).sum(dim=1) / 2, outcome, memory)

    def turn(self, problem: Problem, noise: Noise, tick: int, memory: Memory) -> tuple[Noise, Memory]:
        """One round for the jobs that are not done: their next noise, and what is known of the starts so far."""
        done, score, best = memory["done"], memory["score"], memory["round"]
        if tick > self.rounds or bool(done.all()):
            return noise, memory
        last = tick == self.rounds
        number = best if last else torch.full_like(best, tick)
        starts = fresh(problem.jobs, noise, number.tolist())
        found, success, new = self.improve(problem, starts, self.last_steps if last else self.steps, ~done)
        target = noise.clone()
        target[:, -1] = torch.where(done.view(-1, 1, 1, 1), noise[:, -1], found)
        better = ~done & (new < score)
        score, best = torch.where(better, new, score), torch.where(better, number, best)
        return target, {"done": done | success | last, "score": score, "round": best}

    def improve(
        self, problem: Problem, start: Latents, steps: int, wanted: Bool[Tensor, " b"]
    ) -> tuple[Latents, Bool[Tensor, " b"], PerJob]:
        """The noise after so many updates, which jobs reached their targets, and cross + own of the last look."""
        adam, score = Adam.of(start, self.lr), torch.full(wanted.shape, torch.inf, device=start.device)
        success = torch.zeros_like(wanted)
        places = [self.targets(problem, job) for job in problem.jobs]
        for _ in range(steps):
            moving = wanted & ~success
            if not bool(moving.any()):
                break
            with torch.enable_grad():
                learned = adam.learned.detach().requires_grad_()
                losses = self.look(problem, shifted(start, learned), places)
                (slope,) = torch.autograd.grad(losses[:, 0].sum(), learned)
            cross, own = losses.detach()[:, 1], losses.detach()[:, 2]
            score = torch.where(moving, cross + torch.where(own <= 1e-6, own + 1, own), score)
            success = success | (moving & (cross < self.cross_target) & (own < self.own_target))
            adam.step(slope, moving & ~success)
            self.pull_back(adam, moving & ~success)
        return shifted(start, adam.learned), success, score

    def look(self, problem: Problem, x: Latents, places: list[list[int]]) -> Float[Tensor, "b 3"]:
        """Joint loss, cross and own of every job at x_T."""
        backbone = problem.backbone
        _, maps = backbone.eps_and_attention(backbone.schedule.start * x, 0, problem.condition, self.side)
        parts = [attention_loss(*rows) for rows in zip(maps.cross, maps.own, places, strict=True)]
        return torch.stack([torch.stack([part.cross + part.own + part.clean, part.cross, part.own]) for part in parts])

    def pull_back(self, adam: "Adam", moving: Bool[Tensor, " b"]) -> None:
        """Updates on the KL until every moving job is within its bound."""
        for _ in range(KL_STEPS):
            with torch.enable_grad():
                learned = adam.learned.detach().requires_grad_()
                distance = kl(learned)
                (slope,) = torch.autograd.grad(distance.sum(), learned)
            far = moving & (distance.detach() > self.largest_kl)
            if not bool(far.any()):
                return
            adam.step(slope, far)

    def targets(self, problem: Problem, job: Job) -> list[int]:
        """Token positions of the objects of a prompt."""
        words = objects(job.prompt) if self.words is None else self.words
        found = [place for word in words for place in problem.backbone.places(job.prompt, word)[:1]]
        if not found:
            raise ValueError(f"InitNO finds no object in the prompt {job.prompt[:60]!r}: name some in `words`")
        return found

    @torch.no_grad()
    def attempt(self, problem: Problem, noise: Noise, anchor: Trajectory | None) -> Outcome:
        blind = replace(problem, reward=BlackBox(problem.reward))
        return blind.attempt(noise, self.measures(anchor), keep_eps=anchor is None)

    def optimizer(self, noise: torch.nn.Parameter, jobs: Sequence[Job]) -> torch.optim.Optimizer:
        return torch.optim.SGD([noise], lr=1.0)


@dataclass(eq=False)
class Adam:
    """Adam (eps 1e-3) on mu and log_var with a count of steps a job, so that a job stops without its neighbours.

    Attributes:
        learned: [b, 2, c, h, w]; so are the moments.
        count: steps of every job, [b].
    """

    learned: Tensor
    first: Tensor
    second: Tensor
    count: Tensor
    lr: float

    @staticmethod
    def of(like: Latents, lr: float) -> "Adam":
        """At mu = 0 and log_var = 0 for every row of `like`."""
        learned = torch.zeros_like(like)[:, None].repeat(1, 2, 1, 1, 1)
        return Adam(learned, learned.clone(), learned.clone(), torch.zeros(len(like), device=like.device), lr)

    def step(self, slope: Tensor, moving: Bool[Tensor, " b"]) -> None:
        """One update of the moving jobs."""
        rows = moving.view(-1, 1, 1, 1, 1)
        self.count = self.count + moving
        count = self.count.clamp(min=1).view(-1, 1, 1, 1, 1)
        self.first = torch.where(rows, 0.9 * self.first + 0.1 * slope, self.first)
        self.second = torch.where(rows, 0.999 * self.second + 0.001 * slope**2, self.second)
        size = (self.second / (1 - 0.999**count)).sqrt() + 1e-3
        update = self.lr * self.first / (1 - 0.9**count) / size
        self.learned = torch.where(rows, self.learned - update, self.learned)


def shifted(x: Latents, learned: Float[Tensor, "b 2 c h w"]) -> Latents:
    """x exp(log_var / 2) + mu."""
    mu, log_var = learned.unbind(dim=1)
    return x * torch.exp(log_var / 2) + mu


def kl(learned: Float[Tensor, "b 2 c h w"]) -> PerJob:
    """KL(N(mu, exp(log_var)) || N(0, 1)), mean over elements."""
    mu, log_var = learned.flatten(2).unbind(dim=1)
    return (mu**2 + log_var.exp() - 1 - log_var).mean(dim=1) / 2


def fresh(jobs: Sequence[Job], noise: Noise, numbers: Sequence[int]) -> Latents:
    """x_T of every job's round; round 0 is that of the job's seed."""
    shape = (1, *noise.shape[2:])
    rows = [
        redraw([job], shape, "initno", number) if number else draw([job], shape)
        for job, number in zip(jobs, numbers, strict=True)
    ]
    return torch.cat(rows)[:, 0].to(noise)


def objects(prompt: str) -> list[str]:
    """The last word of every phrase: "a cat and a red car" has cat and car."""
    phrases = (re.findall(r"[^\W\d_]+", part) for part in re.split(PHRASE_ENDS, prompt.lower()))
    heads = [words[-1] for words in phrases if words]
    return list(dict.fromkeys(head for head in heads if head not in NO_OBJECTS))
