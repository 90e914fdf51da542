"""The sampling loop, differentiable in its noise, under three engines that give the same gradient.

`full` keeps every step's activations. `checkpoint` and `walk` keep the latents alone and compute a step again on the
way back (T denoiser calls, T repeated ones, memory of one step); `store` steps at the end of the chain keep their
activations, which saves their second call. `walk` runs forward without building a graph at all.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available
from torch.utils.checkpoint import checkpoint

from .backbones.base import Again, Backbone, Condition
from .diffusion import transition
from .drift import Measure
from .types import Images, Latents, Noise

EngineName = Literal["full", "checkpoint", "walk"]


@dataclass(frozen=True)
class Engine:
    """How gradients travel through the chain.

    Attributes:
        name: `full`, `checkpoint` or `walk`.
        store_steps: steps at the image end whose activations are kept; ignored by `full`, which keeps all.
    """

    name: EngineName = "checkpoint"
    store_steps: int = 0


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One pass through the sampling chain.

    Attributes:
        images: decoded result, raw.
        latents: x_0.
        energies: one row a measure, summed over steps.
        eps: predicted noises in sampling order, detached, if they were asked for.
    """

    images: Images
    latents: Latents
    energies: Float[Tensor, "m b"]
    eps: Float[Tensor, "T b c h w"] | None

    def detach(self) -> "Trajectory":
        """The same values, cut from the graph."""
        return replace(
            self, images=self.images.detach(), latents=self.latents.detach(), energies=self.energies.detach()
        )

    def rows(self, index: Tensor | slice) -> "Trajectory":
        """The trajectories of the given rows."""
        eps = None if self.eps is None else self.eps[:, index]
        return Trajectory(self.images[index], self.latents[index], self.energies[:, index], eps)

    def then(self, other: "Trajectory") -> "Trajectory":
        """These rows, then the other ones, which were measured and kept alike."""
        eps = None if self.eps is None or other.eps is None else torch.cat([self.eps, other.eps], dim=1)
        images, latents = torch.cat([self.images, other.images]), torch.cat([self.latents, other.latents])
        return Trajectory(images, latents, torch.cat([self.energies, other.energies], dim=1), eps)


@dataclass(frozen=True, eq=False)
class State:
    """Where the loop stands: the latents, the sums of the measures [m, b], and the predictions so far, detached."""

    x: Latents
    energies: Tensor
    eps: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Chain:
    """The steps of one batch: everything about the chain that no gradient reaches."""

    backbone: Backbone
    condition: Condition
    measures: Sequence[Measure]

    def step(self, x: Latents, noise: Latents, index: int) -> tuple[Latents, Tensor, Latents]:
        """x_prev, the measures' shares [m, b] and the prediction, of step `index`."""
        schedule = self.backbone.schedule
        prediction = self.backbone.predict(x, index, self.condition)
        gaussian, eps = transition(prediction, schedule, index), prediction.eps
        shares = [m.step(schedule, index, x, eps, gaussian, noise) for m in self.measures]
        return gaussian.sample(noise), torch.stack(shares) if shares else x.new_zeros(0, len(x)), eps

    def noise_at(self, noise: Noise, index: int) -> Latents:
        """The noise that step `index` injects."""
        return noise[:, self.backbone.schedule.steps - 1 - index]

    def contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """Of a checkpointed step: of its first computation, and of its second."""
        return nullcontext(), Again(self.backbone)

    def run(self, state: State, noise: Noise, steps: range) -> State:
        """Plain steps, with a graph wherever grad is enabled."""
        for index in steps:
            x, shares, eps = self.step(state.x, self.noise_at(noise, index), index)
            state = State(x, state.energies + shares, (*state.eps, eps.detach()))
        return state


def sample(
    backbone: Backbone,
    condition: Condition,
    noise: Noise,
    measures: Sequence[Measure] = (),
    engine: Engine = Engine(),
    keep_eps: bool = False,
    learned_steps: int | None = None,
) -> Trajectory:
    """Draw images from noise.

    Args:
        backbone: the frozen model.
        condition: encoded prompts.
        noise: [b, T + 1, c, h, w], fp32.
        measures: what to sum along the chain.
        engine: how gradients are computed.
        keep_eps: keep every predicted noise, detached.
        learned_steps: steps at the image end that gradients pass through; None is all of them and x_T.
    """
    steps = backbone.schedule.steps
    if noise.shape[1] != steps + 1:
        raise ValueError(f"noise must hold T + 1 = {steps + 1} maps a job, got {noise.shape[1]}")
    chain = Chain(backbone, condition, measures)
    cut = 0 if learned_steps is None else steps - learned_steps
    turn = _first_stored(cut, steps, engine)
    start = noise[:, steps] if learned_steps is None else noise[:, steps].detach()
    state = State(backbone.schedule.start * start, noise.new_zeros(len(measures), len(noise)), ())
    with torch.no_grad():
        state = chain.run(state, noise, range(cut))
    state = RUNNERS[engine.name](chain, state, noise, range(cut, turn))
    state = chain.run(state, noise, range(turn, steps))
    kept = torch.stack(state.eps).detach() if keep_eps else None
    return Trajectory(backbone.decode(state.x), state.x, state.energies, kept)


def _first_stored(cut: int, steps: int, engine: Engine) -> int:
    """The step from which on the graph is kept."""
    if engine.name == "full" or not torch.is_grad_enabled():
        return cut
    return max(cut, steps - engine.store_steps)


def _checkpointed(chain: Chain, state: State, noise: Noise, steps: range) -> State:
    """Every step under torch's checkpoint: computed again when its gradient is asked for."""
    step = partial(checkpoint, chain.step, use_reentrant=False, preserve_rng_state=False, context_fn=chain.contexts)
    for index in steps:
        x, shares, eps = step(state.x, chain.noise_at(noise, index), index)
        state = State(x, state.energies + shares, (*state.eps, eps.detach()))
    return state


def _walked(chain: Chain, state: State, noise: Noise, steps: range) -> State:
    """The steps as one autograd function that keeps nothing but the latents."""
    if not steps:
        return state
    x, energies, eps = Walk.apply(chain, steps, state.x, state.energies, noise)
    return State(x, energies, (*state.eps, *eps))


class Walk(torch.autograd.Function):
    """Forward without a graph; backward recomputes each step from its latents and pulls the cotangents through it."""

    @staticmethod
    def forward(ctx, chain: Chain, steps: range, x: Latents, energies: Tensor, noise: Noise):
        state, visited = State(x, energies, ()), []
        for index in steps:
            visited.append(state.x)
            state = chain.run(state, noise, range(index, index + 1))
        ctx.chain, ctx.steps = chain, steps
        ctx.autocast = _autocast(noise.device.type)  # torch runs `backward` outside the caller's
        ctx.save_for_backward(noise, *visited)
        eps = torch.stack(state.eps)
        ctx.mark_non_differentiable(eps)
        return state.x, state.energies.clone(), eps

    @staticmethod
    def backward(ctx, grad_x: Tensor, grad_energies: Tensor, _: Tensor):
        noise, *visited = ctx.saved_tensors
        grad_noise = torch.zeros_like(noise)
        for index, x in zip(reversed(ctx.steps), reversed(visited), strict=True):
            slot = noise.shape[1] - 2 - index
            # Where the walk begins at a constant, its first step has no graph through the denoiser.
            wanted = index > ctx.steps.start or ctx.needs_input_grad[2]
            with torch.enable_grad(), ctx.autocast, Again(ctx.chain.backbone):
                inputs = x.detach().requires_grad_(wanted), noise[:, slot].detach().requires_grad_()
                x_prev, shares, _ = ctx.chain.step(*inputs, index)
            outputs, cotangents = [x_prev], [grad_x]
            if shares.requires_grad:
                outputs, cotangents = [x_prev, shares], [grad_x, grad_energies]
            gradients = torch.autograd.grad(outputs, inputs if wanted else inputs[1:], cotangents)
            grad_x, grad_noise[:, slot] = gradients[0], gradients[-1]
        return None, None, grad_x if ctx.needs_input_grad[2] else None, grad_energies, grad_noise


def _autocast(kind: str) -> AbstractContextManager:
    """The caller's autocast; the meta device has none."""
    if not is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))


RUNNERS = {"full": Chain.run, "checkpoint": _checkpointed, "walk": _walked}
