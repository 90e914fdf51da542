"""How many sampling steps can keep their activations in the memory that is free."""

import os

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .backbones.base import Backbone, Condition
from .drift import ScoreEnergy
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
    needed = step_bytes(backbone, condition, noise)
    return min(backbone.schedule.steps, int(SHARE * free_bytes(noise.device) / processes / max(1, needed)))


def step_bytes(backbone: Backbone, condition: Condition, noise: Noise) -> int:
    """Bytes that autograd keeps for one step: what a second step adds, since both share the weights."""
    chain, seen, added = Chain(backbone, condition, [ScoreEnergy()]), {}, 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal added
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = storage  # kept alive, so that no address is used twice
            added += storage.nbytes()
        return tensor

    x = noise[:, -1].detach().requires_grad_()
    with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
        first = chain.step(x, chain.noise_at(noise, 0), 0)
        added = 0
        chain.step(first[0].detach().requires_grad_(), chain.noise_at(noise, 0), 0)
    return added


def free_bytes(device: torch.device) -> int:
    """Free memory of the device; on the CPU, of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
