"""How many processes the Trainer's settings mean, and under which strategy they run."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.strategies import StrategyRegistry

from mira_pl.fit import IndependentDDP
from mira_pl.fit.checks import processes, strategy

TRAINER = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, 1),
        ({"devices": "auto"}, 1),
        ({"devices": "2"}, 2),
        ({"devices": [0, 3]}, 2),
        ({"devices": "0,"}, 1),
        ({"devices": "1,3", "num_nodes": 2}, 4),
        ({"num_nodes": 3}, 3),
    ],
)
def test_processes(settings, wanted):
    assert processes(TRAINER | settings) == wanted
    assert strategy(TRAINER | settings) == ("auto" if wanted == 1 else "independent_ddp")


@pytest.mark.parametrize("cards", [0, 1, 2])
def test_every_card(monkeypatch, cards):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    wanted = "independent_ddp" if cards == 2 else "auto"
    assert strategy(TRAINER | {"accelerator": "auto", "devices": "auto"}) == wanted
    assert strategy(TRAINER | {"accelerator": "gpu", "devices": -1}) == wanted


def test_a_launcher_that_started_more(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert strategy(TRAINER) == "independent_ddp"


def test_the_class_by_name():
    given = {"class_path": "mira_pl.fit.IndependentDDP", "init_args": {"process_group_backend": "gloo"}}
    assert strategy(TRAINER | {"strategy": given}) == given


def test_processes_wait_for_a_long_tick(arguments):
    """Lightning's default ends a process that waits for half an hour."""
    from mira_pl.fit.cli import parse

    parse(arguments)  # registers it
    given = StrategyRegistry.get("independent_ddp")
    assert isinstance(given, IndependentDDP) and given._timeout == timedelta(days=1)
    assert IndependentDDP(timeout=timedelta(minutes=5))._timeout == timedelta(minutes=5)


@pytest.mark.parametrize("name", ["multi_gpu", "slurm"])
def test_hardware_overlays_leave_the_strategy_out(monkeypatch, name):
    """It follows from the number of processes."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    path = Path(__file__).parent.parent.parent / "configs" / "hardware" / f"{name}.yaml"
    given = yaml.safe_load(path.read_text())["trainer"]
    assert "strategy" not in given and strategy(TRAINER | given) == "independent_ddp"
