"""Appendix A.5 where everything is known: eq. 4's S_0 - S falls while the true KL rises."""

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.commands.experiment import main
from mira_pl.experiments.toy_kl import (
    READINGS,
    RIVALS,
    Drive,
    TrainedModel,
    describe,
    drive,
    exact_model,
    kde_kl,
    normal_kl,
    summary,
    train_unet,
)


@pytest.fixture(scope="module")
def samples_curve() -> pd.DataFrame:
    """Every number to 2.5, the first six steps of A.5: T = 100, eta 1, Adam at 0.1."""
    return drive(exact_model(), Drive(chains=128, iterations=6))


@pytest.fixture(scope="module")
def mean_curve() -> pd.DataFrame:
    return drive(exact_model(steps=20), Drive(chains=64, iterations=20, aim="mean"))


@pytest.mark.parametrize("reading", READINGS)
def test_surrogate_falls_while_the_true_kl_rises(samples_curve: pd.DataFrame, reading: str) -> None:
    assert samples_curve["kl"].is_monotonic_increasing and samples_curve["kl_kde"].is_monotonic_increasing
    assert samples_curve[reading].diff().dropna().lt(0).all()


@pytest.mark.parametrize("reading", READINGS)
def test_a_shifted_mean_is_read_in_perfect_reverse_order(mean_curve: pd.DataFrame, reading: str) -> None:
    """Also while Adam swings back."""
    assert not mean_curve["kl"].is_monotonic_increasing
    row = summary(mean_curve).set_index("drift").loc[reading]
    assert (
        row["spearman"] == pytest.approx(-1) and row["spearman_rising"] == pytest.approx(-1) and row["pearson"] < -0.99
    )


@pytest.mark.parametrize("rival", RIVALS)
def test_the_rivals_rise_with_the_true_kl(samples_curve: pd.DataFrame, mean_curve: pd.DataFrame, rival: str) -> None:
    assert samples_curve[rival].diff().dropna().gt(0).all()
    assert summary(mean_curve).set_index("drift").loc[rival, "spearman"] > 0.99


def test_the_figures_of_the_design(samples_curve: pd.DataFrame) -> None:
    """-242, -17.8, -12.1 and 5.9 nats: where Adam has overshot to a mean of 3.3, after five steps."""
    first, fifth = samples_curve.iloc[0], samples_curve.iloc[5]
    assert all(first[reading] == 0 for reading in (*READINGS, *RIVALS)) and first["kl"] < 0.02
    assert fifth["mean"] == pytest.approx(3.3, abs=0.05)
    assert fifth["marginal"] == pytest.approx(-242, rel=0.03)
    assert fifth["ddim"] == pytest.approx(-17.8, rel=0.03)
    assert fifth["transition"] == pytest.approx(-12.1, rel=0.03)
    assert fifth["kl"] == pytest.approx(5.9, rel=0.03)


@given(st.floats(-4, 4), st.floats(0.05, 3))
def test_closed_form_kl_is_the_integral(mean: float, std: float) -> None:
    grid = torch.linspace(mean - 12 * std, mean + 12 * std, 4001, dtype=torch.float64)
    p, q = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    integral = torch.trapezoid(p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid)), grid)
    assert float(normal_kl(torch.tensor(mean), torch.tensor(std))) == pytest.approx(float(integral), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (2.5, 1.0), (2.5, 0.3), (-1.0, 2.0)])
def test_fitted_and_kernel_kl_agree_with_the_truth(mean: float, std: float) -> None:
    samples = mean + std * torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    truth = (std**2 + mean**2 - 1) / 2 - math.log(std)
    assert describe(samples)["kl"] == pytest.approx(truth, rel=0.05, abs=0.002)
    assert kde_kl(samples[:, 0]) == pytest.approx(truth, rel=0.08, abs=0.05)


def test_a_trained_unet_learns_to_predict_the_noise() -> None:
    """Optimal: the mean of abar, 0.373 over the thousand timesteps; 1 is what an untrained net gives."""
    net, loss = train_unet(updates=60, batch=32, lr=5e-3)
    assert loss < 0.9
    backbone = TrainedModel(net, steps=4)
    curve = drive(backbone, Drive(chains=3, iterations=2))
    assert len(curve) == 3 and curve.notna().all().all()
    assert all(not parameter.requires_grad for parameter in net.parameters())


def test_command_writes_table_curves_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["toy-kl", "--quick", "--unet", "--out", str(tmp_path / "toy")])
    curves = pd.read_csv(tmp_path / "toy" / "curves.csv")
    assert set(curves["experiment"]) == set(pd.read_csv(tmp_path / "toy" / "summary.csv")["experiment"])
    assert len(set(curves["experiment"])) == 4 and {"iteration", "kl", *READINGS, *RIVALS} <= set(curves.columns)
    assert (tmp_path / "toy" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "transition" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["toy"]])
def test_an_unknown_experiment_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="there are toy-kl"):
        main(argv)


def test_one_chain_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="--chains must be at least 2, got 1"):
        main(["toy-kl", "--chains", "1"])
