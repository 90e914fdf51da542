"""Searches on rectified flows, whose chain begins at pure noise: in closed form and on tiny networks."""

from pathlib import Path

import pytest
import torch
from closed_form import GuidedFlow, posed

from mira_pl.align import align
from mira_pl.backbones import Flux, Sana, StableDiffusion3
from mira_pl.drift import ScoreDifference, ScoreEnergy
from mira_pl.rewards import Brightness
from mira_pl.searches import DAS, DPS, FK, MIRAFK, BestOfN, CoDe, DyMO, Search

SEARCHES = [
    BestOfN(3), FK(3), MIRAFK(3), CoDe(3, block=2), DAS(3, alpha=0.5), DPS(scale=1.0), DyMO(first=0.0),
]  # fmt: skip
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def backbone(eta: float) -> GuidedFlow:
    means = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return GuidedFlow(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=6, eta=eta)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_the_frozen_flow_draws_the_image_from_the_noise_unless_its_last_step_was_steered(search: Search) -> None:
    problem, noise, start = posed(backbone(eta=1.0), Brightness())
    search.check(problem.backbone, Brightness())
    found = search.solve(problem, noise, start, 1)
    assert torch.isfinite(found.merit).all() and torch.isfinite(found.noise[:, 1:]).all()
    if isinstance(search, DPS | DyMO):  # they steer the last step too, which on a flow has no noise
        assert not torch.isfinite(found.noise[:, 0]).all()
        return
    again = problem.attempt(found.noise, [ScoreEnergy(), ScoreDifference(start.trajectory.eps)])
    torch.testing.assert_close(again.trajectory.images, found.outcome.trajectory.images, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.trajectory.energies, found.outcome.trajectory.energies, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_eulers_method_has_no_noise_to_choose_among(search: Search) -> None:
    if search.needs_noise:
        with pytest.raises(ValueError, match=r"this sampler has no noise in its steps: raise .*eta, or take BestOfN"):
            search.check(backbone(eta=0.0), Brightness())
    else:
        problem, noise, start = posed(backbone(eta=0.0), Brightness())
        search.check(problem.backbone, Brightness())
        found = search.solve(problem, noise, start, 0).outcome
        assert torch.isfinite(found.reward).all() and (found.reward >= start.reward - 1e-6).all()


@pytest.mark.parametrize("kind", [StableDiffusion3, Sana])
@pytest.mark.parametrize("search", [FK(2), DPS(), DyMO()], ids=lambda search: search.name)
def test_networks(kind: type, search: Search, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue({StableDiffusion3: "tiny_sd3", Sana: "tiny_sana"}[kind])
    result = align("a cat", kind(str(folder), steps=3, eta=1.0), Brightness(), search, trainer=QUIET)
    assert result.records[0]["status"] == "finished" and torch.isfinite(result.images).all()
    assert not search.needs_gradient or not torch.equal(result.images, result.start_images)


def test_flux_has_no_guidance_to_measure_steps_by(tiny_dev: Path) -> None:
    model = Flux(str(tiny_dev), steps=2, eta=1.0)
    FK().check(model, Brightness())
    with pytest.raises(ValueError, match=r"without it \(guidance 1, or FLUX\)"):
        DyMO().check(model, Brightness())
