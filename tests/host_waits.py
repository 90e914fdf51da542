"""What makes the host wait for a card inside an iteration, found without one: on the meta device."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MADE_ON_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor}


class HostWaits:
    """Names of the calls that copy from the host to the device while it is active; any read of a value raises there.

    Reading (`item`, `bool`, `tolist`, `cpu`) is refused by the meta device itself, which holds no values.
    """

    def __init__(self) -> None:
        self.found: list[str] = []
        self._modes = (_Calls(self.found), _Copies(self.found))

    def __enter__(self) -> "HostWaits":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Calls(TorchFunctionMode):
    """Tensors made of Python numbers: they begin on the host."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in MADE_ON_HOST and result.device.type == "meta":
            self.found.append(func.__name__)
        return result


class _Copies(TorchDispatchMode):
    """Tensors that move; a number of the host beside a tensor of the device travels with the kernel's arguments."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        moves = func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        if moves and "meta" in _devices([result]) and "cpu" in _devices((args, kwargs)):
            self.found.append(str(func))
        return result


def _devices(tree: Iterable) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}
