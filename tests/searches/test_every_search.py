"""What every search must keep to: one suite, run for each of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from closed_form import GuidedMixture, gaussian, jobs, posed
from counted import FIELDS, Counted

from mira_pl.align import align
from mira_pl.drift import ScoreDifference, ScoreEnergy
from mira_pl.fit.state import COUNTS
from mira_pl.noise import draw
from mira_pl.problem import Problem
from mira_pl.rewards.base import Reward
from mira_pl.rewards.pixels import Brightness, JPEGSize
from mira_pl.searches import DAS, DPS, FK, MIRAFK, BestOfN, CoDe, DyMO, Found, Search
from mira_pl.trajectory import sample
from mira_pl.types import Compute, Images, PerJob

T = 6


@dataclass
class Broken(Reward):
    """No number for the first job's prompt, and brightness for all others."""

    differentiable = True

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        bad = torch.tensor([math.nan if prompt == "prompt 0" else 0.0 for prompt in prompts])
        return images.mean(dim=(1, 2, 3)) + bad


def backbone(eta: float = 1.0, steps: int = T) -> GuidedMixture:
    """Two calls a prediction, as under guidance."""
    means = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return GuidedMixture(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=steps, eta=eta)


def solved(search: Search, count: int = 2, index: int = 1, reward: Reward = Brightness()) -> Found:
    problem, noise, start = posed(backbone(), reward, count)
    return search.solve(problem, noise, start, index)


class SearchConformance:
    """Subclasses give a `search` and what a round of it costs, nothing else."""

    search: Search
    cost: Compute

    def test_shapes(self) -> None:
        found = solved(self.search)
        path = found.outcome.trajectory
        assert path.images.shape == (2, 3, 2, 2) and path.energies.shape == (2, 2) and path.eps is None
        assert found.noise.shape == (2, *backbone().noise_shape)
        for values in (found.outcome.reward, found.merit, found.ess):
            assert values.shape == (2,) and torch.isfinite(values).all() and not values.requires_grad
        assert torch.equal(found.outcome.reward, path.images.mean(dim=(1, 2, 3)))

    def test_batch_equals_singles(self) -> None:
        problem, noise, start = posed(backbone(), Brightness(), 3)
        together = self.search.solve(problem, noise, start, 1)
        for row, job in enumerate(problem.jobs):
            one, single = Problem.of(backbone(), Brightness(), [job]), noise[row : row + 1]
            begun = one.attempt(single, [ScoreEnergy()], keep_eps=True).detach()
            alone = self.search.solve(one, single, begun, 1)
            for left, right in ((alone.noise, together.noise), (alone.outcome.reward, together.outcome.reward)):
                torch.testing.assert_close(left[0], right[row], atol=1e-4, rtol=1e-4)
            energies = together.outcome.trajectory.energies[:, row]
            torch.testing.assert_close(alone.outcome.trajectory.energies[:, 0], energies, atol=1e-4, rtol=1e-4)

    def test_the_seed_decides_and_nothing_else(self) -> None:
        first = solved(self.search)
        torch.manual_seed(99)
        again = solved(self.search)
        assert torch.equal(first.noise, again.noise)
        assert torch.equal(first.outcome.trajectory.images, again.outcome.trajectory.images)
        assert not torch.equal(first.noise, solved(self.search, index=2).noise)

    def test_the_frozen_model_draws_the_image_from_the_noise(self) -> None:
        problem, noise, start = posed(backbone(), Brightness())
        found = self.search.solve(problem, noise, start, 1)
        path = sample(problem.backbone, problem.condition, found.noise)
        torch.testing.assert_close(path.images, found.outcome.trajectory.images, atol=1e-3, rtol=1e-3)
        measures = [ScoreEnergy(), ScoreDifference(start.trajectory.eps)]
        measured = problem.attempt(found.noise, measures).trajectory.energies
        torch.testing.assert_close(measured, found.outcome.trajectory.energies, atol=1e-3, rtol=1e-3)

    def test_compute_is_the_closed_form(self) -> None:
        scored = Counted(Brightness())
        problem, noise, start = posed(backbone(), scored)
        before, scored.images = problem.backbone.spent, 0
        self.search.solve(problem, noise, start, 1)
        images, rest = divmod(scored.images, 2)  # of two jobs
        assert replace(problem.backbone.spent - before, reward=images) == self.cost and not rest

    def test_what_is_computed_together_changes_nothing(self) -> None:
        if isinstance(self.search, BestOfN | DPS | DyMO):
            pytest.skip("one path a job")
        whole, apart = (solved(replace(self.search, chunk=chunk)) for chunk in (3, 1))
        torch.testing.assert_close(whole.noise, apart.noise, atol=1e-4, rtol=1e-4)

    def test_a_job_without_a_number_leaves_its_neighbour_alone(self) -> None:
        found, plain = solved(self.search, reward=Broken()), solved(self.search)
        assert not torch.isfinite(found.outcome.reward[0])
        assert torch.equal(found.outcome.trajectory.images[1], plain.outcome.trajectory.images[1])

    def test_black_boxes_are_for_searches_without_gradient(self) -> None:
        if self.search.needs_gradient:
            with pytest.raises(ValueError, match=r"needs reward gradients, but JPEGSize has none: .*BestOfN") as error:
                self.search.check(backbone(), JPEGSize())
            assert "\n" not in str(error.value)
        else:
            self.search.check(backbone(), JPEGSize())
            problem, noise, start = posed(backbone(), JPEGSize())
            assert torch.isfinite(self.search.solve(problem, noise, start, 1).outcome.reward).all()

    @pytest.mark.parametrize(("eta", "steps", "held"), [(0.0, T, "no noise in its steps"), (1.0, 1, "one step")])
    def test_samplers_without_noise_are_for_some(self, eta: float, steps: int, held: str) -> None:
        if self.search.needs_noise:
            with pytest.raises(ValueError, match=rf"this sampler has {held}: .*steps and eta, or take BestOfN"):
                self.search.check(backbone(eta, steps), Brightness())
        else:
            self.search.check(backbone(eta, steps), Brightness())

    def test_records_are_complete(self) -> None:
        quiet = {"accelerator": "cpu", "enable_progress_bar": False}
        model = backbone()
        result = align([job.prompt for job in jobs(3)], model, Brightness(), self.search, batch_size=2, trainer=quiet)
        rounds = self.search.rounds
        assert len(result.trace) == 3 * (rounds + 1)
        per_round = rounds - 1 if isinstance(self.search, BestOfN) else rounds
        expected = self.cost.times(per_round)
        if self.search.uses_start:
            expected = expected + Compute(unet=2 * T, vae=1, reward=1)
        for record in result.records:
            assert set(record) == FIELDS
            assert record["status"] == "finished" and record["iterations"] == rounds
            assert record["method"] == type(self.search).__name__
            assert record["compute"] == {name: getattr(expected, name) for name in COUNTS}
            assert record["drift"] == pytest.approx(record["S0"] - record["S"])
            rows = [row for row in result.trace if row["key"] == record["key"]]
            assert [row["iteration"] for row in rows] == list(range(rounds + 1))
            assert rows[0]["reward"] == record["reward_start"] and rows[-1]["reward"] == record["reward"]
            assert all(row["ess"] >= 1 for row in rows[1:])
        seeds = [replace(job, seed=record["seed"]) for job, record in zip(jobs(3), result.records, strict=True)]
        start = sample(model, model.encode([""] * 3), draw(seeds, model.noise_shape)).images
        torch.testing.assert_close(result.start_images, start, atol=1e-5, rtol=1e-5)


class TestBestOfN(SearchConformance):
    search = BestOfN(candidates=3)
    cost = Compute(unet=2 * T, vae=1, reward=1)


class TestBestOfNWithASharedStart(SearchConformance):
    search = BestOfN(candidates=2, start="shared")
    cost = Compute(unet=2 * T, vae=1, reward=1)

    @pytest.mark.parametrize(("eta", "steps", "held"), [(0.0, T, "no noise in its steps"), (1.0, 1, "one step")])
    def test_samplers_without_noise_are_for_some(self, eta: float, steps: int, held: str) -> None:
        with pytest.raises(ValueError, match=rf"shared start chooses .* has {held}: .* with independent starts"):
            self.search.check(backbone(eta, steps), Brightness())


class TestFK(SearchConformance):
    """K T and K |S|: four looks, at steps 1, 2, 4 and 5 of 6."""

    search = FK(particles=3, rounds=2)
    cost = Compute(unet=2 * 3 * T, vae=3 * 4, reward=3 * 4)


class TestFKOfThePublicCode(TestFK):
    search = FK(particles=3, potential="add", adaptive=False, legacy_weights=True, rounds=2)


class TestMIRAFK(TestFK):
    search = MIRAFK(particles=3, rounds=2)


class TestCoDe(SearchConformance):
    """N T and N ceil(T / B)."""

    search = CoDe(candidates=3, block=4)
    cost = Compute(unet=2 * 3 * T, vae=3 * 2, reward=3 * 2)


class TestSVDD(SearchConformance):
    search = CoDe(candidates=3, block=1)
    cost = Compute(unet=2 * 3 * T, vae=3 * T, reward=3 * T)


class TestDAS(SearchConformance):
    """N T with a backward each, and N looks at x_0."""

    search = DAS(particles=3, alpha=0.5)
    cost = Compute(unet=2 * 3 * T, vae=3 * (T + 1), reward=3 * (T + 1), backward=2 * 3 * T)


class TestDASOfThePublicCode(TestDAS):
    search = DAS(particles=3, alpha=0.1, legacy=True)


class TestDPS(SearchConformance):
    """T with a backward each, and a look at x_0."""

    search = DPS(scale=1.0)
    cost = Compute(unet=2 * T, vae=T + 1, reward=T + 1, backward=2 * T)


class TestDPSThroughTheDecoder(TestDPS):
    search = DPS(scale=1.0, through="decoder")
    cost = Compute(unet=2 * T, vae=T + 1, reward=T + 1)


class TestDyMO(SearchConformance):
    """One plain step, five of three passes each with a backward, and a look at x_0."""

    search = DyMO(repeats=2)
    cost = Compute(unet=2 * (1 + 5 * 3), vae=5 * 3 + 1, reward=5 * 3 + 1, backward=2 * 5 * 3)

    def test_a_model_without_guidance_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"without it \(guidance 1, or FLUX\): raise .*guidance where .*DPS"):
            self.search.check(gaussian(steps=T), Brightness())
