"""Bytes a step, measured against a graph that is really kept."""

from pathlib import Path

import pytest
import torch

from mira_pl import Alignment, align
from mira_pl.backbones import StableDiffusion
from mira_pl.fit import NoiseAlignment
from mira_pl.memory import affordable_steps, free_bytes, step_bytes
from mira_pl.noise import draw
from mira_pl.objectives import MIRA
from mira_pl.rewards import Brightness

MEMINFO = Path("/proc/meminfo")


def test_step_bytes_are_what_one_more_step_keeps(tiny_sd, jobs):
    sizes = []
    for batch in (jobs[:1], jobs[:2]):
        backbone = StableDiffusion(str(tiny_sd), steps=4)
        sizes.append(
            step_bytes(backbone, backbone.encode([job.prompt for job in batch]), draw(batch, backbone.noise_shape))
        )
    assert 10_000 < sizes[0] < 10_000_000
    assert 1.5 < sizes[1] / sizes[0] < 2.1  # activations grow with the batch, weights would not


@pytest.mark.skipif(not MEMINFO.exists(), reason="Linux tells its available memory in a file")
def test_free_memory_of_a_machine_counts_its_page_cache():
    kilobytes = next(int(line.split()[1]) for line in MEMINFO.read_text().splitlines() if "MemAvailable" in line)
    assert free_bytes(torch.device("cpu")) == pytest.approx(1024 * kilobytes, rel=0.1)


def test_steps_are_bounded_by_the_schedule_and_by_memory(tiny_sd, jobs, monkeypatch):
    backbone = StableDiffusion(str(tiny_sd), steps=4)
    condition, noise = backbone.encode([job.prompt for job in jobs]), draw(jobs, backbone.noise_shape)
    assert free_bytes(torch.device("cpu")) > 10**8
    assert affordable_steps(backbone, condition, noise) == 4
    needed = step_bytes(backbone, condition, noise)
    monkeypatch.setattr("mira_pl.memory.free_bytes", lambda device: int(2.5 * needed / 0.4))
    assert affordable_steps(backbone, condition, noise) == 2
    assert affordable_steps(backbone, condition, noise, processes=2) == 1


def small_run(folder: Path, store_steps: int | str) -> Alignment:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    backbone = StableDiffusion(str(folder), steps=3)
    return align("a cat", backbone, Brightness(), MIRA(), trainer=quiet, iterations=2, store_steps=store_steps)


def test_auto_changes_nothing(tiny_sd):
    spent = {"unet": 2 * 6 + 6, "vae": 3, "reward": 3, "backward": 2 * 6}
    stored, recomputed = small_run(tiny_sd, "auto"), small_run(tiny_sd, 0)
    assert torch.equal(stored.images, recomputed.images)
    assert stored.records[0]["compute"] == recomputed.records[0]["compute"] == spent


def test_negative_store_steps(tiny_sd):
    with pytest.raises(ValueError, match="store_steps"):
        NoiseAlignment(StableDiffusion(str(tiny_sd), steps=3), Brightness(), MIRA(), store_steps=-1)
