from pathlib import Path

import pytest
import torch
from PIL import Image

from mira_pl.rewards import Brightness, Darkness, JPEGSize
from mira_pl.rewards.pixels import eight_bit

NO_PROMPTS = [""] * 4


def test_brightness_is_the_raw_mean_even_beyond_white(images):
    levels = torch.tensor([-1.0, 0.25, 1.0, 1.5])
    flat = levels.view(4, 1, 1, 1).expand(4, 3, 8, 8)
    torch.testing.assert_close(Brightness().score(flat, NO_PROMPTS), levels)
    torch.testing.assert_close(Darkness().score(flat, NO_PROMPTS), -levels)
    torch.testing.assert_close(Brightness().score(images, NO_PROMPTS), images.flatten(1).mean(dim=1))


@pytest.mark.parametrize(("reward", "sign"), [(Brightness(), 1), (Darkness(), -1)])
def test_gradient_is_the_same_for_every_pixel(reward, sign, images):
    images.requires_grad_()
    reward.score(images, NO_PROMPTS).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, sign / images[0].numel()))


@pytest.mark.parametrize("quality", [30, 95])
def test_jpeg_size_is_minus_the_file_size(images, quality, tmp_path: Path):
    scores = JPEGSize(quality).score(images, NO_PROMPTS)
    for number, picture in enumerate(images):
        bytes_hwc = ((picture.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        Image.fromarray(bytes_hwc).save(tmp_path / "picture.jpg", quality=quality)
        assert scores[number].item() == pytest.approx(-(tmp_path / "picture.jpg").stat().st_size / 1000)


def test_jpeg_size_is_a_black_box_that_prefers_flat_pictures(images):
    assert not JPEGSize.differentiable
    noisy = JPEGSize().score(images.requires_grad_(), NO_PROMPTS)
    assert not noisy.requires_grad
    assert (JPEGSize().score(torch.zeros_like(images), NO_PROMPTS) > noisy).all()


def test_jpeg_quality_is_checked():
    with pytest.raises(ValueError, match="from 1 to 100, but 101 came"):
        JPEGSize(101)


def test_eight_bit_clamps_and_rounds():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert eight_bit(images)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
