"""Time before a run: operations by hand, and against those that a whole fit really computes."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mira_pl.__main__ import main
from mira_pl.fit import duration
from mira_pl.fit.cli import parse, plain
from mira_pl.fit.duration import least_seconds, operations, rate, seconds_left
from mira_pl.fit.needs import needs_of
from mira_pl.fit.parts import Parts

CPU = torch.device("cpu")
XL_HPS = ["--config", "configs/sdxl_hps.yaml", "--model.store_steps", "0"]
EMOJI = ["--config", "configs/emoji_aesthetic.yaml", "--model.store_steps", "0", "--data.limit", "2"]
EMOJI += ["--model.iterations", "2", "--model.backbone.init_args.steps", "3", "--trainer.accelerator", "cpu"]
QUIET = ["--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false"]
ONE_STEP = ["--config", "configs/emoji_turbo.yaml", "--model.iterations", "2"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No published weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def parts(*arguments: str) -> Parts:
    config = plain(parse(arguments))
    return Parts.of(config, needs_of(config))


def needed(*arguments: str) -> float:
    """TFLOP of a job in all."""
    found = operations(parts(*arguments), CPU)
    assert found is not None
    return found.model + found.rewards


def test_sdxl_by_hand() -> None:
    """50 iterations of 100 guided steps, each computed twice, and a last look."""
    found = operations(parts(*XL_HPS), CPU)
    assert found is not None
    looks, there, back = 51, 200 * 6.761 + 10.47, 200 * (7.460 + 6.761) + 11.02 + 0.6 * 10.47
    assert found.model == pytest.approx(looks * there + 50 * back)
    assert found.rewards == pytest.approx(looks * (0.3346 + 0.1620) + 50 * 0.3454)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--model.engine", "walk", "--model.store_steps", "1"],
        ["--model.engine", "full", "--model.elbo_pairs", "2"],
        ["--model.objective", "DNO", "--model.objective.opt_time", "1"],
        ["--model.backbone.init_args.guidance", "1", "--model.backbone.init_args.checkpoint_vae", "false"],
        ["--config", "configs/methods/mira_dpo.yaml", "--model.reward", "JPEGSize"],
        ONE_STEP,
    ],
    ids=["checkpoint", "walk", "full", "cut", "unguided", "two noises", "one step"],
)
def test_a_fit_computes_that_much_and_little_more(tmp_path: Path, more: list[str]) -> None:
    """More are the texts and, of the decoder, what its checkpoints compute again beyond the share that is counted."""
    given = [*EMOJI, *more, "--out", str(tmp_path / "run")]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        assert main(["fit", *given, *QUIET]) == 0
    assert 0.85 < 2 * needed(*given) / (counter.get_total_flops() / 1e12) < 1


def test_what_it_grows_with() -> None:
    fewer = [*XL_HPS, "--model.iterations", "25"]
    assert needed(*fewer) == pytest.approx(needed(*XL_HPS) * 25.4 / 50.4, rel=0.01)
    kept = needed(*XL_HPS[:2], "--model.engine", "full")
    assert needed(*XL_HPS) - kept == pytest.approx(50 * 200 * 6.761)
    assert needed(*XL_HPS[:2], "--model.store_steps", "40") == pytest.approx(kept + 50 * 120 * 6.761)


def test_auto_keeps_what_fits_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mira_pl.memory.free_bytes", lambda device: int(20.5 * 2 * 5.337e9 / 0.4))
    fitting = needed(*XL_HPS[:2], "--model.store_steps", "auto")
    assert fitting == pytest.approx(needed(*XL_HPS[:2], "--model.store_steps", "20"))


@pytest.mark.parametrize(
    "more",
    [
        ["--config", "configs/methods/fk.yaml"],
        ["--config", "configs/methods/hybrid2.yaml"],
        ["--config", "configs/methods/initno.yaml"],
        ["--model.backbone.init_args.model", "us/other"],
        ["--model.patience", "3"],
        ["--model.target_reward", "0.3"],
        ["--data.budget.unet", "1000"],
    ],
)
def test_what_is_not_known(more: list[str]) -> None:
    assert operations(parts(*XL_HPS, *more), CPU) is None
    assert least_seconds(parts(*XL_HPS, *more), 3, CPU) is None


def test_seconds_are_operations_over_the_rate_of_their_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"bfloat16": 4.0, "float32": 0.5}
    monkeypatch.setattr(duration, "rate", lambda device, dtype: rates[dtype])
    found = operations(parts(*XL_HPS), CPU)
    assert found is not None
    assert least_seconds(parts(*XL_HPS), 6, CPU) == pytest.approx(6 * (found.model / 4 + found.rewards / 0.5))
    half = least_seconds(parts(*XL_HPS, "--trainer.accelerator", "cpu", "--trainer.devices", "2"), 6, CPU)
    assert half == pytest.approx(3 * (found.model / 4 + found.rewards / 0.5))
    mixed = [*XL_HPS, "--model.backbone.init_args.dtype", "float32", "--trainer.precision", "bf16-mixed"]
    assert least_seconds(parts(*mixed), 6, CPU) == pytest.approx(6 * (found.model + found.rewards) / 4)


def test_the_rate_is_that_of_a_product() -> None:
    """In TFLOP a second, and back to the precision that was set."""
    before = torch.get_float32_matmul_precision()
    assert 1e-4 < rate(CPU, "float32") < 100
    assert torch.get_float32_matmul_precision() == before


def test_time_is_the_mean_of_what_is_done() -> None:
    assert seconds_left([], 5) is None
    assert seconds_left([{"seconds": 10.0}, {"seconds": 20.0}], 5) == 45.0
