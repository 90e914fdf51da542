"""Several draws of every job in flight at once: what a particle is, one step of all of them, and their scores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..backbones.base import Backbone
from ..diffusion import Prediction, Schedule, transition
from ..drift import Measure, ScoreDifference, ScoreEnergy
from ..noise import redraw
from ..problem import Outcome, Problem
from ..trajectory import Trajectory
from ..types import Images, Job, Latents, Noise, PerJob
from .base import Found

Swarmed = Float[Tensor, "k b c h w"]
PerParticle = Float[Tensor, "k b"]
P = TypeVar("P", bound="Particles")


@dataclass(frozen=True, eq=False)
class Particles:
    """Latents with their past. Subclasses add what their method remembers of each particle; first axes are [k, b].

    Attributes:
        x: latents.
        noise: what was injected so far, in sampling order, x_T first.
        energies: sums of the measures so far.
    """

    x: Swarmed
    noise: Float[Tensor, "k b used c h w"]
    energies: Float[Tensor, "k b m"]

    def index(self: P, ancestors: Int[Tensor, "n b"]) -> P:
        """The particles that `ancestors` names in each column, with everything that is theirs."""
        return replace(self, **{f.name: take(getattr(self, f.name), ancestors) for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Predicted:
    """`diffusion.Prediction` of every particle."""

    eps: Swarmed
    x0: Swarmed

    def index(self, ancestors: Int[Tensor, "n b"]) -> "Predicted":
        """The predictions of the particles that `ancestors` names."""
        return Predicted(take(self.eps, ancestors), take(self.x0, ancestors))

    def flat(self) -> Prediction:
        """In rows: the first particle of all jobs, then the second, ..."""
        return Prediction(self.eps.flatten(0, 1), self.x0.flatten(0, 1))


def take(values: Tensor, ancestors: Int[Tensor, "n b"]) -> Tensor:
    """values[ancestors[i, j], j] of [k, b, ...]."""
    return values[ancestors, torch.arange(ancestors.shape[1], device=ancestors.device)]


def drawn(jobs: Sequence[Job], noise: Noise, index: int, particle: int) -> Noise:
    """The noise of a particle in round `index`; the first one of round 0 has that of the job's seed."""
    if index == particle == 0:
        return noise
    return redraw(jobs, noise.shape[1:], "particle", index, particle).to(noise)


def kept_eps(start: Trajectory) -> Float[Tensor, "T b c h w"]:
    """Predicted noises of a start.

    Raises:
        ValueError: they were not kept.
    """
    if start.eps is None:
        raise ValueError("a search needs the predicted noises of its start: sample it with keep_eps")
    return start.eps


@contextmanager
def counted(backbone: Backbone, images: int) -> Iterator[None]:
    """Counts calls on several images of every job as so many calls."""
    before = backbone.spent
    yield
    backbone.spent = before + (backbone.spent - before).times(images)


@dataclass(frozen=True, eq=False)
class Swarm:
    """What all particles share.

    Attributes:
        problem: with one row a job.
        start: trajectory that drifts are measured from, its predictions kept.
        chunk: particles of every job that are computed together; memory, and the last digits, hang on it.
    """

    problem: Problem
    start: Trajectory
    chunk: int

    @property
    def schedule(self) -> Schedule:
        """Of the sampler."""
        return self.problem.backbone.schedule

    @property
    def start_eps(self) -> Float[Tensor, "T b c h w"]:
        """Predicted noises of the start."""
        return kept_eps(self.start)

    def measures(self, step: int, count: int) -> Sequence[Measure]:
        """S, and the score difference to the start, of `count` particles at a step."""
        anchor = self.start_eps[step].repeat(count, 1, 1, 1)
        return [ScoreEnergy(), ScoreDifference(anchor.expand(step + 1, *anchor.shape))]

    def noises(self, noise: Noise, index: int, count: int) -> Float[Tensor, "k b n c h w"]:
        """All that `count` particles will need in round `index`, drawn beforehand."""
        return torch.stack([drawn(self.problem.jobs, noise, index, particle) for particle in range(count)])

    def begin(self, noise: Float[Tensor, "k b n c h w"]) -> Particles:
        """Particles at x_T."""
        x = noise[:, :, -1]
        return Particles(self.schedule.start * x, x[:, :, None], x.new_zeros(*x.shape[:2], 2))

    def each(self, x: Swarmed, call: Callable[[Problem, Latents], tuple[Tensor, ...]]) -> list[Tensor]:
        """What `call` returns, row by row, for `chunk` particles at a time, as [k, b, ...]."""
        parts = []
        for part in x.split(self.chunk):
            with counted(self.problem.backbone, len(part)):
                parts.append(call(self.problem.repeat(len(part)), part.flatten(0, 1)))
        return [torch.cat(rows).unflatten(0, x.shape[:2]) for rows in zip(*parts, strict=True)]

    def predict(self, x: Swarmed, step: int) -> Predicted:
        """Guided predictions."""

        def see(problem: Problem, rows: Latents) -> tuple[Latents, Latents]:
            prediction = problem.backbone.predict(rows, step, problem.condition)
            return prediction.eps, prediction.x0

        return Predicted(*self.each(x, see))

    def mean(self, seen: Predicted, step: int) -> Swarmed:
        """Where a step leads without its noise; linear in the prediction."""
        return transition(seen.flat(), self.schedule, step).mean.unflatten(0, seen.eps.shape[:2])

    def score(self, latents: Swarmed) -> tuple[Float[Tensor, "k b 3 height width"], PerParticle]:
        """Decoded images and their rewards."""

        def decode_and_score(problem: Problem, rows: Latents) -> tuple[Images, PerJob]:
            images = problem.backbone.decode(rows)
            return images, problem.reward.score(images, problem.prompts)

        images, reward = self.each(latents, decode_and_score)
        return images, reward

    def advance(self, state: P, seen: Predicted, step: int, noise: Swarmed, shift: Swarmed | None = None) -> P:
        """One step of the sampler, its result moved by `shift`, which is booked as noise."""
        count, jobs = state.x.shape[:2]
        x, z, prediction = state.x.flatten(0, 1), noise.flatten(0, 1), seen.flat()
        gaussian = transition(prediction, self.schedule, step)
        measures = self.measures(step, count)
        shares = torch.stack([m.step(self.schedule, step, x, prediction.eps, gaussian, z) for m in measures], dim=1)
        after = replace(
            state,
            x=gaussian.sample(z).unflatten(0, (count, jobs)),
            noise=torch.cat([state.noise, noise[:, :, None]], dim=2),
            energies=state.energies + shares.unflatten(0, (count, jobs)),
        )
        return after if shift is None else self.moved(after, shift, self.schedule.sigmas[step])

    def moved(self, state: P, shift: Swarmed, std: Tensor | float) -> P:
        """Particles elsewhere: the noise that led to them changes by shift / std, to infinity where std is 0."""
        last = state.noise[:, :, -1] + torch.where(shift == 0, torch.zeros_like(shift), shift / std)
        past = torch.cat([state.noise[:, :, :-1], last[:, :, None]], dim=2)
        return replace(state, x=state.x + shift, noise=past)

    def found(self, state: Particles, images: Tensor, reward: PerParticle, merit: PerParticle, ess: PerJob) -> Found:
        """The particle of highest merit of every job, at x_0."""
        best = merit.nan_to_num(nan=-torch.inf).argmax(dim=0, keepdim=True)
        chosen = state.index(best)
        path = Trajectory(take(images, best)[0], chosen.x[0], chosen.energies[0].T.contiguous(), None)
        return Found(Outcome(path, take(reward, best)[0]), chosen.noise[0].flip(1), take(merit, best)[0], ess)
