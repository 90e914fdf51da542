"""One batch of prompt-seeds after the other: a LightningModule that holds the learnable noise and nothing else.

A round is a Lightning epoch and one batch of jobs a process; a tick is a training step and one optimisation iteration.
Iteration k of a trace is the image after k updates: 0 is what the frozen model draws, K the result.
"""

import math
import time
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..backbones import Backbone
from ..drift import surrogate
from ..memory import affordable_steps
from ..objectives import Objective
from ..problem import Outcome, Problem
from ..ranges import finite, not_negative, positive
from ..rewards import Reward
from ..trajectory import Engine, EngineName
from ..types import Compute, Job, Noise
from .finish import last_look
from .monitor import Limits, evaluate, stop_finished
from .solver import Solver
from .state import FAILED, BatchState
from .steepest import Steepest

Keep = Literal["last", "best"]


class NoiseAlignment(Solver):
    """Optimises the noises of one batch of prompt-seeds.

    Args:
        backbone: the frozen text-to-image model.
        reward: what is to go up; must be differentiable, unless the method takes black boxes.
        objective: the method.
        clip: CLIPScore of the traces and records, and what `Guarded` guards by; null leaves the column empty.
        iterations: K, updates a job (50 in the paper, section 5).
        lr: learning rate (0.01 in the paper, A.1). It, `optimizer` and what belongs to it, and `clip_norm` are not
            for methods with an update rule of their own, such as Langevin.
        weight_decay: decay of the noise; 0.01, torch's default, is what the public DNO code runs.
        optimizer: `adamw` (MIRA, DNO), `sgd` with Nesterov's momentum (ReNO), or `steepest`, see `Steepest`.
        momentum: of `sgd`.
        clip_norm: largest gradient norm of a job; 1 in the public DNO code.
        engine: `full`, `checkpoint` or `walk`, see `mira_pl.trajectory`.
        store_steps: steps whose activations `checkpoint` and `walk` keep; `auto` is what fits into memory.
        keep: return the `last` iterate, as DNO and MIRA do, or the one of `best` reward.
        target_reward: a job that reaches it within the limits stops.
        patience: a job whose best reward within the limits has not risen for so many iterations stops.
        drift_limit: a job whose |S_0 - S| exceeds it at the end returns its best iterate within.
        clip_limit: the same for the fall of its CLIPScore (that of `clip`) below its start. A job may come back from
            beyond a limit, so `patience` decides how long it is given.
        elbo_pairs: pairs of the `elbo` trace column, 0 leaves it empty; costs that many U-Net calls an iteration.
        save_every: iterations between saves of the state a killed run goes on from.
        film_frames: frames of the filmstrip between start and result.
    """

    noise: nn.Parameter

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        objective: Objective,
        clip: Reward | None = None,
        iterations: int = 50,
        lr: float = 0.01,
        weight_decay: float = 0.01,
        optimizer: Literal["adamw", "sgd", "steepest"] = "adamw",
        momentum: float = 0.9,
        clip_norm: float = 1.0,
        engine: EngineName = "checkpoint",
        store_steps: int | Literal["auto"] = 0,
        keep: Keep = "last",
        target_reward: float | None = None,
        patience: int | None = None,
        drift_limit: float | None = None,
        clip_limit: float | None = None,
        elbo_pairs: int = 0,
        save_every: int = 1,
        film_frames: int = 4,
    ) -> None:
        super().__init__(backbone, reward, clip)
        objective.check(backbone, reward, clip)
        self.objective = objective
        self.iterations, self.lr, self.weight_decay, self.clip_norm = iterations, lr, weight_decay, clip_norm
        self.update, self.momentum = optimizer, momentum
        self.engine: EngineName = engine
        self.store_steps, self.keep = store_steps, keep
        self.target_reward, self.patience, self.limits = target_reward, patience, Limits(drift_limit, clip_limit)
        self.elbo_pairs, self.save_every, self.film_frames = elbo_pairs, save_every, film_frames
        self.noise = nn.Parameter(torch.zeros(0, *backbone.noise_shape))
        self._before, self._began = self.noise.detach(), 0.0
        self._scored, self.largest_norm = Compute(), clip_norm
        self._check()

    def _check(self) -> None:
        """Refuse numbers that cannot be."""
        finite(target_reward=self.target_reward)
        positive(iterations=self.iterations, lr=self.lr, clip_norm=self.clip_norm, save_every=self.save_every)
        positive(patience=self.patience, drift_limit=self.limits.drift)
        not_negative(clip_limit=self.limits.clip)
        if self.limits.clip is not None and self.clip is None:
            raise ValueError("clip_limit needs a CLIPScore to watch, but model.clip is null: give model.clip a reward")
        not_negative(weight_decay=self.weight_decay, elbo_pairs=self.elbo_pairs, film_frames=self.film_frames)
        not_negative(store_steps=None if isinstance(self.store_steps, str) else self.store_steps)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    @property
    def method(self) -> str:
        return self.objective.name

    def configure_optimizers(self) -> torch.optim.Optimizer:
        own = self.objective.optimizer(self.noise, self.state.jobs if self.state is not None else [])
        self.largest_norm = self.clip_norm if own is None else math.inf
        if own is not None:
            return own
        options: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        if self.update == "sgd":
            return torch.optim.SGD([self.noise], **options, momentum=self.momentum, nesterov=self.momentum > 0)
        if self.update == "steepest":
            return Steepest(self.noise, self.moves, **options)
        return torch.optim.AdamW([self.noise], **options)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        """The summed loss of the jobs that run; 0 where there is nothing to do, so that processes stay in step."""
        state, problem = self.state, self.problem
        if state is None or problem is None or state.tick >= self.iterations or not bool(state.running.any()):
            return self.noise.sum() * 0
        began = time.perf_counter()
        loss = self.objective.loss(problem, self.noise, state.anchor, state.tick, state.memory)
        state.memory = {name: value.detach() for name, value in loss.memory.items()}
        self._scored = Compute(reward=loss.scored)
        self._look(state, problem, loss.outcome.detach())
        state.stop(~torch.isfinite(loss.value.detach()), FAILED)
        self._began = began
        return torch.where(state.running, loss.value, torch.zeros_like(loss.value)).sum()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip every job by its own norm: a spike of one job must not shrink its neighbours."""
        state, gradient = self.state, self.noise.grad
        if state is None or gradient is None or not len(gradient) or not bool(state.running.any()):
            return
        gradient[:, ~self.moves] = 0  # what is not learned has no part in the norm
        norm = gradient.flatten(1).norm(dim=1)
        state.stop(~torch.isfinite(norm), FAILED)
        scale = torch.where(state.running, 1 / (norm / self.largest_norm).clamp(min=1), torch.zeros_like(norm))
        gradient.copy_(torch.where(_rows(state.running, gradient), gradient * _rows(scale, gradient), 0.0))
        for row in state.trace[len(state.trace) - state.rows_last :]:
            row["grad_norm"] = float(norm[state.place(row["key"])])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._before = self.noise.detach().clone()

    def on_train_batch_end(self, outputs: Any, batch: int, batch_idx: int) -> None:
        """Put frozen noise back (decay and momentum move it even without a gradient), count, log and save."""
        state = self.state
        rows = [] if state is None else state.trace[len(state.trace) - state.rows_last :]
        if state is not None and rows:
            self._put_back(state)
            ran = {row["key"] for row in rows}
            state.add_cost(time.perf_counter() - self._began, self.spent_since_last() + self._scored, ran)
            state.tick, state.rows_last = state.tick + 1, 0
            self.data.budget.stop(state)
            if self.run is not None and (state.tick % self.save_every == 0 or state.tick == self.iterations):
                state.noise = self.noise.detach()
                state.save(self.run.state_path(state.index), self._optimizer().state_dict())
        elif state is not None:
            self.noise.data = self._before
        self.report(rows, self.global_step)

    def last_look(self, state: BatchState, problem: Problem) -> Outcome:
        state.noise = self.noise.detach()
        return last_look(self, state, problem)

    def open_round(self, index: int | None) -> None:
        optimizer = None
        if index is None:
            self.state, self.problem = None, None
            noise = self.noise.detach()[:0]
        else:
            self.state, optimizer = self._load(index, self.data.batches[index])
            noise = self.state.noise
            shared = self.trainer.world_size if self.device.type == "cpu" else 1
            self.problem = self.pose(self.state.jobs, noise, shared)
        self.noise.data, self.noise.grad = noise.clone(), None
        self.trainer.strategy.setup_optimizers(self.trainer)
        if optimizer is not None:
            self._optimizer().load_state_dict(optimizer)

    def pose(self, jobs: list[Job], noise: Noise, processes: int) -> Problem:
        """The problem of a batch, with as many steps stored as there is memory for, among so many processes."""
        problem = replace(Problem.of(self.backbone, self.reward, jobs), clip=self.clip)
        if isinstance(self.store_steps, int):
            return replace(problem, engine=Engine(self.engine, self.store_steps))
        stored = affordable_steps(self.backbone, problem.condition, noise, processes * self.objective.candidates)
        self.spent_since_last()  # measuring is no part of the method
        return replace(problem, engine=Engine(self.engine, stored))

    def _load(self, index: int, jobs: list[Job]) -> tuple[BatchState, dict[str, Any] | None]:
        if self.run is not None and self.run.state_path(index).exists():
            return BatchState.load(self.run.state_path(index), self.device)
        state = BatchState.new(index, jobs, self.objective.start(jobs, self.backbone.noise_shape).to(self.device))
        state.best_noise = self.objective.split(state.noise)[: len(jobs)].clone()
        return state, None

    def look(self, state: BatchState, problem: Problem, attempts: Outcome) -> Outcome:
        """Record one evaluated iteration of the jobs that run.

        Of several noises a job, the first iteration shows that of the job's seed, which is the same under every
        method, and later ones the noise that would be returned.
        """
        more = {name: state.memory[name] for name in ("beta",) if name in state.memory}
        if state.anchor is None:
            state.anchor = attempts.trajectory
        else:
            state.rows = self.objective.answer(attempts.reward)
        if self.objective.candidates == 2:
            others = (state.rows + len(state.jobs)) % len(attempts.reward)
            drift = surrogate(state.anchor.energies[0], attempts.trajectory.energies[0])
            more |= {"loser_reward": attempts.reward[others], "loser_drift": drift[others]}
        noise = self.objective.split(self.noise.detach())[state.rows]
        outcome = attempts.rows(state.rows)
        evaluate(state, problem, outcome, noise, self.clip, self.elbo_pairs, self.limits, more)
        return outcome

    def _look(self, state: BatchState, problem: Problem, attempts: Outcome) -> None:
        """Record one iteration, keep its frame, and stop the jobs that are done."""
        outcome = self.look(state, problem, attempts)
        state.keep_frame(outcome.trajectory.images, self.iterations, self.film_frames)
        stop_finished(state, self.target_reward, self.patience)

    def _put_back(self, state: BatchState) -> None:
        before = self._before
        kept = _rows(state.running, before).expand_as(before).clone()
        kept[:, ~self.moves] = False
        self.noise.data = torch.where(kept, self.noise.data, before)

    @property
    def moves(self) -> Tensor:
        """Which of the learned maps move, [maps]."""
        return self.objective.moves(self.noise.shape[1]).to(self.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        return self.trainer.optimizers[0]


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))
