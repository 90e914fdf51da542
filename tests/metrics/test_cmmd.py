"""CMMD against an explicit double loop, and where its value is known."""

import math

import pytest
import torch

from mira_pl.metrics import cmmd


def unit(count: int, seed: int, width: int = 8) -> torch.Tensor:
    points = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return points / points.norm(dim=1, keepdim=True)


def loop(left: torch.Tensor, right: torch.Tensor) -> float:
    """The definition, kernel by kernel."""

    def mean(a: torch.Tensor, b: torch.Tensor) -> float:
        values = [
            math.exp(-sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) / 200)
            for x in a.tolist()
            for y in b.tolist()
        ]
        return sum(values) / len(values)

    return 1000 * (mean(left, left) + mean(right, right) - 2 * mean(left, right))


def test_equals_its_definition():
    left, right = unit(7, 0), unit(5, 1)
    assert cmmd(left, right) == pytest.approx(loop(left, right), abs=1e-9)


def test_known_values():
    left = unit(6, 0)
    assert cmmd(left, left) == pytest.approx(0, abs=1e-9)
    one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    assert cmmd(one, other) == pytest.approx(1000 * (2 - 2 * math.exp(-4 / 200)))


def test_floor_of_the_biased_form():
    """iid unit vectors, m = 900, n = 225: 0.0541 without any difference between the sets; unbiased, near 0."""
    values = [cmmd(unit(900, seed, 512), unit(225, seed + 100, 512)) for seed in range(3)]
    assert sum(values) / 3 == pytest.approx(10 * (1 / 900 + 1 / 225), rel=0.05)
    assert abs(cmmd(unit(900, 0, 512), unit(225, 100, 512), unbiased=True)) < 0.005
