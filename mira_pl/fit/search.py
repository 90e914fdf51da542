"""Searches on batches of prompt-seeds: a LightningModule that learns nothing.

A tick is one round of the search. Iteration k of a trace is the image after k rounds: 0 is what the frozen model draws
from the noise of the job's seed, later ones are the best that was found so far.
"""

import time
from typing import Any

import torch

from ..backbones import Backbone
from ..drift import ScoreEnergy
from ..noise import draw
from ..problem import Outcome, Problem
from ..ranges import finite, not_negative, positive
from ..rewards import Reward
from ..searches import Search
from .monitor import evaluate, stop_finished
from .search_state import SearchState
from .solver import Solver
from .state import FAILED


class NoiseSearch(Solver):
    """Searches images of high reward for one batch of prompt-seeds.

    Args:
        backbone: the frozen text-to-image model.
        reward: what is to go up; a black box where the search needs no gradient.
        search: the method.
        clip: CLIPScore of the traces and records; null leaves the column empty.
        target_reward: a job that reaches it stops.
        patience: a job whose best reward has not risen for so many rounds stops.
        elbo_pairs: pairs of the `elbo` trace column, 0 leaves it empty; costs that many U-Net calls a round.
        save_every: rounds between saves of the state a killed run goes on from.
        film_frames: frames of the filmstrip between start and result.
    """

    state: SearchState | None  # type: ignore[assignment]

    def __init__(
        self,
        backbone: Backbone,
        reward: Reward,
        search: Search,
        clip: Reward | None = None,
        target_reward: float | None = None,
        patience: int | None = None,
        elbo_pairs: int = 0,
        save_every: int = 1,
        film_frames: int = 4,
    ) -> None:
        super().__init__(backbone, reward, clip)
        finite(target_reward=target_reward)
        positive(save_every=save_every, patience=patience)
        not_negative(elbo_pairs=elbo_pairs, film_frames=film_frames)
        search.check(backbone, reward)
        self.search, self.iterations = search, search.rounds
        self.target_reward, self.patience = target_reward, patience
        self.elbo_pairs, self.save_every, self.film_frames = elbo_pairs, save_every, film_frames
        self.automatic_optimization = False

    @property
    def method(self) -> str:
        return self.search.name

    def configure_optimizers(self) -> None:
        """Nothing is learned."""

    def open_round(self, index: int | None) -> None:
        self.state, self.problem, rows = None, None, []
        if index is not None:
            self.state = self._load(index)
            self.problem = Problem.of(self.backbone, self.reward, self.state.jobs)
            if self.state.anchor is None:
                rows = self._begin(self.state, self.problem)
        self.report(rows, self._step())

    def training_step(self, batch: int, batch_idx: int) -> None:
        """One round for the jobs that run; nothing where none does, so that processes stay in step."""
        state, problem, rows = self.state, self.problem, []
        if state is not None and problem is not None and self._wanted(state):
            began, seen = time.perf_counter(), len(state.trace)
            found = self.search.solve(problem, state.start_noise, state.start, state.tick)
            state.take(found)
            state.tick += 1
            self._look(state, problem, {"candidate": found.outcome.reward, "ess": found.ess})
            rows = state.trace[seen:]
            state.add_cost(time.perf_counter() - began, self.spent_since_last(), {row["key"] for row in rows})
            self.data.budget.stop(state)
            if self.run is not None and (state.tick % self.save_every == 0 or state.tick == self.iterations):
                state.save(self.run.state_path(state.index), {})
        self.report(rows, self._step() + batch_idx + 1)

    def last_look(self, state: SearchState, problem: Problem) -> Outcome:
        state.stop(~torch.isfinite(state.merit), FAILED)
        return state.best

    @torch.no_grad()
    def _begin(self, state: SearchState, problem: Problem) -> list[dict[str, Any]]:
        """The start, which is part of the cost where the search uses it."""
        began = time.perf_counter()
        state.begin(problem.attempt(state.noise, [ScoreEnergy()], keep_eps=True))
        self._look(state, problem, {})
        spent = self.spent_since_last()
        if self.search.uses_start:
            state.add_cost(time.perf_counter() - began, spent, state.keys)
        return state.trace

    def _look(self, state: SearchState, problem: Problem, more: dict[str, torch.Tensor]) -> None:
        """Record the best so far, and stop the jobs that are done."""
        best = state.best
        evaluate(state, problem, best, state.noise, self.clip, self.elbo_pairs, more=more)
        if state.tick < self.iterations:
            state.keep_frame(best.trajectory.images, self.iterations, self.film_frames)
        stop_finished(state, self.target_reward, self.patience)

    def _load(self, index: int) -> SearchState:
        if self.run is not None and self.run.state_path(index).exists():
            return SearchState.load(self.run.state_path(index), self.device)[0]
        jobs = self.data.batches[index]
        return SearchState.new(index, jobs, draw(jobs, self.backbone.noise_shape).to(self.device))

    def _wanted(self, state: SearchState) -> bool:
        return state.tick < self.iterations and bool(state.running.any())

    def _step(self) -> int:
        """Ticks before this round; Lightning counts the updates of an optimiser, and here is none."""
        return self.trainer.current_epoch * self.iterations
