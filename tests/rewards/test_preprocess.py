import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mira_pl.rewards.pixels import eight_bit
from mira_pl.rewards.preprocess import OPENAI_MEAN, OPENAI_STD, clip_pixels, crop, resize


def picture(height: int, width: int) -> torch.Tensor:
    """Coarse and fine structure on the 8-bit grid, in [-1, 1]."""
    random = torch.Generator().manual_seed(height)
    coarse = F.interpolate(torch.rand(1, 3, 6, 6, generator=random), (height, width), mode="bilinear")
    fine = 0.3 * torch.rand(1, 3, height, width, generator=random)
    return 2 * ((coarse + fine) / 1.3 * 255).round() / 255 - 1


@pytest.mark.parametrize(("height", "width", "side"), [(512, 512, 224), (96, 140, 64), (130, 96, 64), (64, 64, 224)])
def test_resize_equals_pillow(height, width, side):
    images = picture(height, width)
    ours = resize(images / 2 + 0.5, side).clamp(0, 1)[0].permute(1, 2, 0)
    size = (ours.shape[1], ours.shape[0])
    pillow = Image.fromarray(eight_bit(images)[0].numpy()).resize(size, Image.Resampling.BICUBIC)
    assert np.abs(ours.numpy() - np.asarray(pillow) / 255).max() <= 2 / 255


@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 140), (131, 97)])
def test_all_steps_equal_transformers_processor(height, width):
    images = picture(height, width)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    theirs = processor(Image.fromarray(eight_bit(images)[0].numpy()), return_tensors="pt").pixel_values
    tolerance = 2.01 / 255 / min(OPENAI_STD)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    ours = ((clip_pixels(images, 64) * std + mean).clamp(0, 1) - mean) / std
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


def test_matching_size_is_left_alone():
    pixels = torch.rand(2, 3, 64, 64)
    assert resize(pixels, 64) is pixels
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    torch.testing.assert_close(clip_pixels(2 * pixels - 1, 64), (pixels - mean) / std)


def test_crop_is_central():
    pixels = torch.arange(10.0).expand(1, 3, 4, 10)
    assert crop(pixels, 4)[0, 0, 0].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_any_precision_comes_out_as_fp32(dtype):
    assert clip_pixels(torch.zeros(1, 3, 48, 48, dtype=dtype), 32).dtype == torch.float32


def test_gradient_stops_at_clamped_pixels_only():
    images = torch.zeros(1, 3, 48, 48)
    images[:, :, :8] = 3.0
    images.requires_grad_()
    clip_pixels(images, 32).square().sum().backward()
    assert (images.grad[:, :, :8] == 0).all()
    assert (images.grad[:, :, 8:] != 0).all()
