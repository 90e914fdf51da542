"""Appendix A.5 of MIRA: does S_0 - S follow the true KL when the noise is driven to another distribution?

Data N(0, I), d = 32, exact eps = sqrt(1 - abar) x, DDIM T = 100, eta 1, Adam at 0.1 on x_T and every noise for 50
iterations towards 2.5, 5000 chains, seeds 0, 1, ... S is summed over steps and averaged over dimensions, so a sum over
dimensions is 32 times as large; KL is in nats a dimension. What was measured:

    every sample to 2.5   iteration 0  iteration 5  iteration 50   Spearman with the KL
    true KL                     0.001          5.9           4.9
    S_0 - S, marginal               0         -241          -133   -0.65
    S_0 - S, ddim                   0        -17.8          -9.8   -0.65
    S_0 - S, transition             0        -12.3          -6.6   -0.62

Adam overshoots to a mean of 3.5 and swings back: the largest size is that of iterations 5 to 7. Afterwards the KL rises
because every chain collapses into one point (std 0.11), which no reading of S sees, nor do the rivals (0.62 to 0.65).
Where the mean alone is driven (`aim="mean"`), the std stays and Spearman and Pearson are -1.00 for all three readings,
+1.00 for score difference and ELBO. So the surrogate sees the shift of A.5, with the sign reversed: the term that eq. 4
adds, beta (S_0 - S), REWARDS this drift. A.5 reports a positive correlation, which S - S_0 or |S_0 - S| would give.

With a U-Net trained as A.5 says (3000 updates, loss 0.374 where 0.373 is optimal; 64 chains) the sign is the same while
the mean rises, -97 (marginal), -7.5 (ddim), -6.0 (transition) at a KL of 5.6, but then the optimiser finds where the
network is wrong, and S parts from the KL: Spearman -0.27, -0.43, -0.78 over 50 iterations, score difference 0.44, ELBO
0.30; with the mean alone driven -0.08, -0.14, -0.61, score difference 0.43, ELBO 0.99. A.5's "strict monotonic"
relation was not found with either model, in either sign, over the whole run of an optimiser that pulls on every sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import UNet1DModel
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ..backbones.analytic import MixtureBackbone, sd_scheduler
from ..backbones.base import Backbone, Condition, Text
from ..diffusion import Prediction, Schedule, from_noise
from ..drift import ScoreDifference, ScoreEnergy, denoising_loss, surrogate
from ..noise import draw
from ..trajectory import Engine, Trajectory, sample
from ..types import Compute, Images, Job, Latents, Noise, PerJob

READINGS = {
    "marginal": ScoreEnergy("network", "marginal"),
    "ddim": ScoreEnergy("network", "ddim"),
    "transition": ScoreEnergy("transition", "ddim"),
}
"""What S is summed from: the readings of sigma_t^2 ||s||^2 that eq. 4 and eq. 23 leave open."""

RIVALS = ("score_difference", "elbo")
ELBO_PAIRS = 8


@dataclass(frozen=True)
class Drive:
    """How the noise of many independent chains is optimised.

    Attributes:
        chains: samples of the generated distribution; A.5 takes 5000.
        iterations: Adam steps, 50 in A.5.
        lr: learning rate, 0.1 in A.5.
        target: mean aimed at, 2.5 in A.5.
        aim: `samples` minimises (x - target)^2 of every number, so the chains end in one point; `mean` minimises
            (mean over chains - target)^2, so the distribution is shifted and keeps its shape. A.5 does not say which.
    """

    chains: int = 5000
    iterations: int = 50
    lr: float = 0.1
    target: float = 2.5
    aim: Literal["samples", "mean"] = "samples"


def exact_model(steps: int = 100, eta: float = 1.0) -> MixtureBackbone:
    """Data N(0, I) in 32 dimensions, as latents [4, 2, 4]: eps = sqrt(1 - abar) x, nothing is learned."""
    return MixtureBackbone(torch.zeros(1, 4, 2, 4), torch.ones(1), torch.ones(1), steps=steps, eta=eta)


class TrainedModel(Backbone):
    """A 1-D U-Net on sequences of 32 numbers, as latents [1, 1, 32]. The prompt is ignored."""

    def __init__(self, net: Any, steps: int = 100, eta: float = 1.0) -> None:
        self.net, self.scheduler = net.eval().requires_grad_(False), sd_scheduler()
        self.schedule = Schedule.from_scheduler(self.scheduler, steps, eta)
        self.latent_shape = (1, 1, net.config.sample_size)

    def encode(self, prompts: Sequence[str]) -> Condition:
        nothing = Text(torch.zeros(len(prompts), 1, 1))
        return Condition(nothing, nothing)

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        return from_noise(x, self.denoise(x, timestep, condition), self.schedule.alpha[step])

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        return self.count(self.net(x[:, 0], timestep).sample[:, None], 1)

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        return latents.expand(-1, 3, -1, -1)

    def alpha(self, timestep: Tensor) -> Tensor:
        return self.scheduler.alphas_cumprod.to(timestep.device)[timestep]

    def to(self, device: torch.device | str) -> "TrainedModel":
        self.net.to(device)
        return self


def train_unet(updates: int = 3000, batch: int = 64, lr: float = 1e-3, seed: int = 0) -> tuple[UNet1DModel, float]:
    """A U-Net without downsampling (22 000 weights) on N(0, I), updates and lr as in A.5; and its last mean loss."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = UNet1DModel(
            sample_size=32, in_channels=1, out_channels=1, block_out_channels=(16,), norm_num_groups=8, act_fn="mish",
            down_block_types=("DownResnetBlock1D",), up_block_types=("UpResnetBlock1D",),
            mid_block_type="MidResTemporalBlock1D", out_block_type="OutConv1DBlock",
            time_embedding_type="positional", use_timestep_embedding=True,
        )  # fmt: skip
    random, alphas = torch.Generator().manual_seed(seed), sd_scheduler().alphas_cumprod
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=lr), []
    for _ in range(updates):
        data, noise = torch.randn(2, batch, 1, 32, generator=random)
        timestep = torch.randint(len(alphas), (batch,), generator=random)
        level = alphas[timestep].view(-1, 1, 1)
        loss = F.mse_loss(net(level.sqrt() * data + (1 - level).sqrt() * noise, timestep).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return net, float(torch.stack(losses[-200:]).mean())


def drive(backbone: Backbone, how: Drive) -> pd.DataFrame:
    """One row an iteration, from the untouched noise on.

    Columns: S_0 - S of each reading, the rivals of `drift.py` (all means over chains, sums over steps, means over
    dimensions), `kl` and `kl_kde` (nats a dimension), and `mean` and `std` of what is generated.
    """
    jobs = [Job("", seed, str(seed)) for seed in range(how.chains)]
    noise = draw(jobs, backbone.noise_shape).requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=how.lr)
    rows, start, start_loss = [], None, None
    for iteration in range(how.iterations + 1):
        path = _sampled(backbone, noise, start)
        own = _own_loss(backbone, path.latents.detach())
        if start is None or start_loss is None:
            start, start_loss = path.detach(), own
        rows.append({"iteration": iteration, **_drifts(start, path.detach()), "elbo": float((own - start_loss).mean())})
        rows[-1] |= describe(path.latents.detach().flatten(1))
        if iteration < how.iterations:
            optimizer.zero_grad()
            _loss(path.latents, how).backward()
            optimizer.step()
    return pd.DataFrame(rows)


def _sampled(backbone: Backbone, noise: Noise, start: Trajectory | None) -> Trajectory:
    rivals = [] if start is None or start.eps is None else [ScoreDifference(start.eps)]
    measures = [*READINGS.values(), *rivals]
    condition = backbone.encode([""] * len(noise))
    return sample(backbone, condition, noise, measures, Engine("full"), keep_eps=start is None)


def _own_loss(backbone: Backbone, latents: Latents) -> PerJob:
    condition = backbone.encode([""] * len(latents))
    with torch.no_grad():
        return denoising_loss(lambda x, t: backbone.denoise(x, t, condition), backbone.alpha, latents, ELBO_PAIRS)


def _drifts(start: Trajectory, path: Trajectory) -> dict[str, float]:
    pairs = zip(READINGS, start.energies, path.energies[: len(READINGS)], strict=True)
    drifts = {name: float(surrogate(before, now).mean()) for name, before, now in pairs}
    return {**drifts, "score_difference": float(path.energies[len(READINGS) :].sum(dim=0).mean())}


def _loss(latents: Latents, how: Drive) -> Tensor:
    """Summed over chains: Adam then moves every chain alike, whatever their number."""
    reached = latents if how.aim == "samples" else latents.mean(dim=0, keepdim=True).expand_as(latents)
    return (reached - how.target).square().flatten(1).mean(dim=1).sum()


def describe(samples: Float[Tensor, "n d"]) -> dict[str, float]:
    """True KL of what is generated against N(0, I), in nats a dimension, by a fitted Gaussian and by kernel density."""
    mean, std = samples.mean(dim=0), samples.std(dim=0)
    pooled = samples.flatten()
    return {
        "kl": float(normal_kl(mean, std).mean()),
        "kl_kde": kde_kl(pooled[:: max(1, len(pooled) // 5000)]),
        "mean": float(mean.mean()),
        "std": float(std.mean()),
    }


def normal_kl(mean: Tensor, std: Tensor) -> Tensor:
    """KL of N(mean, std^2) from N(0, 1), elementwise."""
    return (std**2 + mean**2 - 1) / 2 - torch.log(std)


def kde_kl(values: Float[Tensor, " n"], points: int = 1024) -> float:
    """KL from N(0, 1) of a Gaussian kernel density (Scott's bandwidth) of the values, integrated on a grid."""
    bandwidth = values.std() * len(values) ** -0.2
    low, high = float(values.min() - 5 * bandwidth), float(values.max() + 5 * bandwidth)
    grid = torch.linspace(low, high, points)
    density = torch.distributions.Normal(values, bandwidth).log_prob(grid[:, None]).exp().mean(dim=1).clamp(min=1e-30)
    reference = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    return float(torch.trapezoid(density * (density.log() - reference), grid))


def summary(curve: pd.DataFrame) -> pd.DataFrame:
    """How every drift goes with the true KL, which is the first row.

    Columns: Spearman correlation while the mean still rises, Spearman and Pearson over all iterations, and the value at
    the first iteration whose mean is the largest, and at the end.
    """
    peak = int(curve["mean"].to_numpy().argmax())
    rows = []
    for drift in ("kl", *READINGS, *RIVALS):
        both = pd.DataFrame({"drift": curve[drift], "kl": curve["kl"]})
        rows.append(
            {
                "drift": drift,
                "spearman_rising": both.head(peak + 1).rank().corr().iloc[0, 1],
                "spearman": both.rank().corr().iloc[0, 1],
                "pearson": both.corr().iloc[0, 1],
                "at_peak": curve[drift].iloc[peak],
                "at_end": curve[drift].iloc[-1],
            }
        )
    return pd.DataFrame(rows)


def figure(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """One row an experiment: left every S_0 - S and the true KL over iterations, right each drift against the KL."""
    canvas = Figure(figsize=(11, 3.4 * len(curves)), layout="constrained")
    for (name, curve), (left, right) in zip(
        curves.items(), canvas.subplots(len(curves), 2, squeeze=False), strict=True
    ):
        for reading in (*READINGS, *RIVALS):
            scaled = curve[reading] / curve[reading].abs().max()
            left.plot(curve["iteration"], scaled, "-" if reading in READINGS else ":", label=reading)
            right.plot(curve["kl"], scaled, "." if reading in READINGS else "x", markersize=4, label=reading)
        truth = left.twinx()
        truth.plot(curve["iteration"], curve["kl"], "k--")
        truth.set_ylabel("true KL, nats a dimension (dashed)")
        left.set(title=name, xlabel="iteration", ylabel="drift / its largest size")
        right.set(title=name, xlabel="true KL, nats a dimension", ylabel="drift / its largest size")
        right.legend(fontsize="small")
    return canvas
