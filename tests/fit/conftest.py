"""Fits of a tiny Stable Diffusion, in this process or in a forked one that can be killed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mira_pl.fit.cli import fit

PROMPTS = '["a white cat", "a fox", "a dog", "a blue bird", "a spider"]'


@pytest.fixture
def arguments(tiny_sd: Path, tmp_path: Path) -> list[str]:
    """Five jobs in three batches, three iterations each, into tmp_path/run."""
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"""
model:
  backbone: {{class_path: StableDiffusion, init_args: {{model: {tiny_sd}, steps: 3}}}}
  reward: Brightness
  objective: {{class_path: MIRA, init_args: {{beta: 0.5}}}}
  iterations: 3
data: {{prompts: {PROMPTS}, batch_size: 2}}
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false}}
wandb: {{mode: disabled}}
out: {tmp_path / "run"}
"""
    )
    return ["--config", str(config)]


@pytest.fixture
def run_fit(arguments: list[str]) -> Callable[..., Path]:
    """Runs the fit of `arguments` with more flags into a folder, and returns the folder."""

    def run(out: Path, *flags: str) -> Path:
        fit([*arguments, "--out", str(out), *flags])
        return out

    return run
