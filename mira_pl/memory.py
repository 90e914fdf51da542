"""What fits into the memory that is free: sampling steps that keep their activations, and jobs at once."""

from collections.abc import Iterable

import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .backbones.base import Backbone, Condition
from .drift import ScoreEnergy
from .problem import Problem
from .trajectory import Chain
from .types import Noise

SHARE = 0.4  # of the free memory; the decoder, the reward and other processes need the rest


def affordable_steps(backbone: Backbone, condition: Condition, noise: Noise, processes: int = 1) -> int:
    """Steps whose graph fits into `SHARE` of the free memory of the noise's device, at most T.

    Args:
        backbone: the frozen model.
        condition: encoded prompts of one batch.
        noise: the noise of that batch.
        processes: processes that share the memory (1 on a GPU of one's own).
    """
    return fitting_steps(backbone.schedule.steps, step_bytes(backbone, condition, noise), noise.device, processes)


def fitting_steps(steps: int, needed: float, device: torch.device, processes: int) -> int:
    """The same for T `steps` of so many bytes each."""
    return min(steps, int(SHARE * free_bytes(device) / processes / max(1, needed)))


class KeptBytes(saved_tensors_hooks):
    """Counts what autograd keeps while it is active, every storage once; works on the meta device too.

    Args:
        shared: tensors that are there anyway, such as parameters, and do not count.

    Attributes:
        bytes: so far.
    """

    def __init__(self, shared: Iterable[Tensor] = ()) -> None:
        # Kept alive, so that none of them gives its identity to another.
        self.seen = {id(storage): storage for storage in (tensor.untyped_storage() for tensor in shared)}
        self.bytes = 0
        super().__init__(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in self.seen:
            self.seen[id(storage)] = storage
            self.bytes += storage.nbytes()
        return tensor


def step_bytes(backbone: Backbone, condition: Condition, noise: Noise) -> int:
    """Bytes that autograd keeps for one step: what a second step adds, since both share the weights."""
    chain = Chain(backbone, condition, [ScoreEnergy()])
    x = noise[:, -1].detach().requires_grad_()
    kept = KeptBytes()
    with torch.enable_grad(), kept:
        first = chain.step(x, chain.noise_at(noise, 0), 0)
        before = kept.bytes
        chain.step(first[0].detach().requires_grad_(), chain.noise_at(noise, 0), 0)
    return kept.bytes - before


def affordable_jobs(one: Problem, noise: Noise, stored: int, shared: int) -> int:
    """Jobs whose batch fits into `SHARE` of the free memory of the noise's device, at least 1.

    Args:
        one: the problem of one job.
        noise: its noise.
        stored: steps whose activations are kept beside those of the step in work.
        shared: batches of as many noises that are there at once: of other processes, or of a job's other candidates.
    """
    needed = (1 + stored) * step_bytes(one.backbone, one.condition, noise) + picture_bytes(one, noise)
    return max(1, int(SHARE * free_bytes(noise.device) / shared / max(1, needed)))


def picture_bytes(one: Problem, noise: Noise) -> int:
    """Bytes that autograd keeps for decoding and scoring: what a second picture adds. Checkpointed blocks keep none."""
    kept, before = KeptBytes(), 0
    with torch.enable_grad(), kept:
        for _ in range(2):
            before = kept.bytes
            one.reward.score(one.backbone.decode(noise[:, -1].detach().requires_grad_()), one.prompts)
    return kept.bytes - before


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; on the CPU, what the machine can give without swapping, its page cache included."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
