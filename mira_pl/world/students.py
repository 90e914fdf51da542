"""One-step students of the world's text-to-image model, taught what it makes of a noise in many steps."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor

from ..backbones import StableDiffusion
from ..runs import write_atomic
from ..trajectory import Chain, State
from ..types import Latents
from .scenes import generator, sample_scenes
from .training import AveragedTraining

CHUNK = 500  # pairs in a file of the cache
BATCH = 50  # pairs sampled at once
LAST = 999  # the timestep of pure noise


class StudentTraining(AveragedTraining):
    """Regression on pairs of a noise and the teacher's picture of it by DDIM with eta 0 (Luhman and Luhman 2021).

    An exponential moving average of the weights is what gets exported.

    Args:
        teacher: `emoji`, or the folder of a Stable Diffusion.
        cache: folder of the pairs, which students of one teacher and seed share.
        pairs: distinct pairs, sampled once, then drawn from at random.
        teacher_steps: DDIM steps of the teacher.
        guidance: of the teacher; the student has it built in.
        ema_decay: decay of the weight average a step.
    """

    def __init__(
        self,
        out: Path = Path("pretrain_runs/student/model"),
        steps: int = 4000,
        batch_size: int = 32,
        lr: float = 1e-3,
        seed: int = 8,
        save_every: int = 250,
        teacher: str = "emoji",
        cache: Path = Path("pretrain_runs/pairs"),
        pairs: int = 16_000,
        teacher_steps: int = 12,
        guidance: float = 5.0,
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.pairs = pairs
        self.cache = cache / f"{Path(teacher).name}-{teacher_steps}-{guidance:g}-{seed}"
        # bfloat16 is three times as fast on a CPU; the judge sees no difference.
        self.teacher = StableDiffusion(teacher, teacher_steps, eta=0.0, guidance=guidance, dtype="bfloat16")
        self.average(self.build(), ema_decay)

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """The untrained student."""

    @abstractmethod
    def predict(self, noise: Latents, captions: Sequence[str]) -> Latents:
        """x_0 in one step."""

    def on_fit_start(self) -> None:
        self.noises, self.targets, self.captions = self._pairs(self.cache)

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed, self.global_step * self.trainer.world_size + self.global_rank)
        chosen = torch.randint(len(self.noises), (self.batch_size,), generator=random)
        noise, target = self.noises[chosen].to(self.device), self.targets[chosen].float().to(self.device)
        loss = F.mse_loss(self.predict(noise, [self.captions[i] for i in chosen.tolist()]).float(), target)
        self.report(loss=loss)
        return loss

    @torch.no_grad()
    def _pairs(self, cache: Path) -> tuple[Latents, Tensor, list[str]]:
        """Noises, the teacher's latents and captions; each process samples its share of what is not yet on disk."""
        cache.mkdir(parents=True, exist_ok=True)
        self.teacher.to(self.device)
        noises, files, captions = [], [], []
        for chunk in range(self.pairs // CHUNK):
            random = generator(self.seed + 2000, chunk)
            named = sample_scenes(CHUNK, random).captions
            noise = torch.randn(CHUNK, *self.teacher.latent_shape, generator=random)
            files.append(cache / f"{chunk:04d}.safetensors")
            if not files[-1].exists() and chunk % self.trainer.world_size == self.global_rank:
                write_atomic(files[-1], save({"latents": self._taught(noise, named)}))
            noises.append(noise)
            captions.extend(named)
        self.trainer.strategy.barrier()
        return torch.cat(noises), torch.cat([load_file(file)["latents"] for file in files]), captions

    def _taught(self, noise: Latents, captions: Sequence[str]) -> Tensor:
        starts = range(0, len(noise), BATCH)
        return torch.cat([self._sampled(noise[i : i + BATCH].to(self.device), captions[i : i + BATCH]) for i in starts])

    def _sampled(self, x: Latents, captions: Sequence[str]) -> Tensor:
        chain, steps = Chain(self.teacher, self.teacher.encode(captions), ()), self.teacher.schedule.steps
        unused = x.new_zeros(len(x), steps + 1, *x.shape[1:])  # eta is 0
        return chain.run(State(x, x.new_zeros(0, len(x)), ()), unused, range(steps)).x.half().cpu()
