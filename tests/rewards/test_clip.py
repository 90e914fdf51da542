import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer

from mira_pl.rewards import Aesthetic, CLIPScore, Reward
from mira_pl.rewards.clip import AestheticHead
from mira_pl.rewards.preprocess import clip_pixels
from mira_pl.world.aesthetic import judge_taste, rate
from mira_pl.world.clip import soften
from mira_pl.world.render import Renderer, background
from mira_pl.world.scenes import generator, sample_scenes

PROMPTS = ["a cat", "a blue dog", "generate an image of a fox", "a cat and a red apple"]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_file(AestheticHead(16).state_dict(), tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


@pytest.fixture(params=["CLIPScore", "Aesthetic"])
def reward(request: pytest.FixtureRequest, tiny_clip: Path, head: Path) -> Reward:
    return {
        "CLIPScore": lambda: CLIPScore(str(tiny_clip)),
        "Aesthetic": lambda: Aesthetic(str(tiny_clip), str(head)),
    }[request.param]()


def test_gradient_equals_finite_difference(reward, images):
    images = 0.5 * images.clamp(-1, 1)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(reward.score(images.requires_grad_(), PROMPTS).sum(), images)
    with torch.no_grad():
        ends = [reward.score(images + sign * 1e-2 * direction, PROMPTS).sum() for sign in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-2, (gradient * direction).sum(), rtol=2e-2, atol=1e-3)


def test_to_returns_the_reward(reward, images):
    assert reward.to(torch.device("cpu")) is reward
    assert reward.name == type(reward).__name__


def test_clip_score_is_the_cosine_of_the_model_itself(tiny_clip, images):
    model = CLIPModel.from_pretrained(tiny_clip, dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(tiny_clip)(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(input_ids=tokens.input_ids, pixel_values=clip_pixels(images, 32))
    expected = 100 * output.logits_per_image.diag() / model.logit_scale.exp()
    torch.testing.assert_close(CLIPScore(str(tiny_clip)).score(images, PROMPTS), expected)


def test_clip_score_is_not_clamped_at_zero(tiny_clip, images):
    reward = CLIPScore(str(tiny_clip))
    reward.clip.texts[tuple(PROMPTS)] = -reward.clip.embed_images(images)
    torch.testing.assert_close(reward.score(images, PROMPTS), torch.full((4,), -100.0))


def test_long_prompts_are_truncated(tiny_clip, images):
    words = "a cat and " * 40
    scores = CLIPScore(str(tiny_clip)).score(images[:1].expand(2, -1, -1, -1), [words, words + "a blue dog"])
    torch.testing.assert_close(scores[0], scores[1])


def test_texts_embedded_in_a_validation_loop_serve_training(tiny_clip, images):
    reward = CLIPScore(str(tiny_clip))
    with torch.inference_mode():
        expected = reward.score(images, PROMPTS).clone()
    scores = reward.score(images.requires_grad_(), PROMPTS)
    scores.sum().backward()
    torch.testing.assert_close(scores.detach(), expected)


def test_texts_are_embedded_once_and_few_are_kept(tiny_clip):
    towers = CLIPScore(str(tiny_clip)).clip
    assert towers.embed_texts(PROMPTS) is towers.embed_texts(list(PROMPTS))
    for number in range(100):
        towers.embed_texts([f"a cat {number}"])
    assert len(towers.texts) <= 64


def test_aesthetic_head_is_one_affine_map():
    torch.manual_seed(2)
    head = AestheticHead(16).eval().double()
    weight, bias = torch.eye(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    for index in (0, 2, 4, 6, 7):
        layer = head.layers[index]
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    embedding = torch.randn(5, 16, dtype=torch.float64)
    torch.testing.assert_close(head(embedding), (embedding @ weight.T + bias).squeeze(-1))


def test_aesthetic_head_has_laions_layout():
    shapes = {key: tuple(value.shape) for key, value in AestheticHead(768).state_dict().items()}
    assert shapes == {
        "layers.0.weight": (1024, 768), "layers.0.bias": (1024,),
        "layers.2.weight": (128, 1024), "layers.2.bias": (128,),
        "layers.4.weight": (64, 128), "layers.4.bias": (64,),
        "layers.6.weight": (16, 64), "layers.6.bias": (16,),
        "layers.7.weight": (1, 16), "layers.7.bias": (1,),
    }  # fmt: skip


def test_aesthetic_looks_at_the_picture_alone(tiny_clip, head, images):
    reward = Aesthetic(str(tiny_clip), str(head))
    torch.testing.assert_close(reward.score(images, PROMPTS), reward.score(images, [""] * 4))


def test_pickled_head_equals_safetensors(tiny_clip, head, images, tmp_path):
    torch.save(load_file(head), tmp_path / "head.pth")
    one, two = (Aesthetic(str(tiny_clip), str(file)) for file in (head, tmp_path / "head.pth"))
    torch.testing.assert_close(one.score(images, PROMPTS), two.score(images, PROMPTS))


def test_pickled_code_is_refused(tiny_clip, tmp_path):
    torch.save(AestheticHead(16), tmp_path / "head.pth")
    with pytest.raises(ValueError, match=r"head\.pth is damaged, or holds code"):
        Aesthetic(str(tiny_clip), str(tmp_path / "head.pth"))


def test_wrong_width_names_both_files_and_width(tiny_clip, tmp_path):
    save_file(AestheticHead(8).state_dict(), tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=r"head\.safetensors holds an aesthetic head.* width 16"):
        Aesthetic(str(tiny_clip), str(tmp_path / "head.safetensors"))


def test_missing_head(tiny_clip, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none.pth: give a checkpoint"):
        Aesthetic(str(tiny_clip), str(tmp_path / "none.pth"))


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (shutil.rmtree, FileNotFoundError, "there is no folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, "lacks model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), ValueError, "corrupt weights in"),
        (drop_weight, ValueError, "lack 1 tensors, the first is 'visual_projection.weight'"),
        (lambda folder: (folder / "tokenizer.json").unlink(), FileNotFoundError, "lacks tokenizer.json or vocab.json"),
    ],
)
def test_damaged_clip_is_one_line_that_names_the_folder(tiny_clip, tmp_path, damage, error, message):
    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    damage(folder)
    with pytest.raises(error, match=message) as caught:
        CLIPScore(str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_packaged_clip_prefers_the_true_caption():
    scenes = sample_scenes(64, generator(1234, 0))
    images = Renderer()(scenes)
    reward = CLIPScore()
    others = scenes.captions[1:] + scenes.captions[:1]
    true, wrong = (reward.score(images, texts) for texts in (scenes.captions, others))
    assert (true > wrong).float().mean() >= 0.95


def test_packaged_aesthetic_head_learned_the_taste_imperfectly():
    random = generator(1234, 1)
    scenes = sample_scenes(256, random)
    images = soften(Renderer()(scenes), random)
    ratings, predicted = rate(scenes, images, random), Aesthetic().score(images, [""] * 256)
    assert ((ratings >= 1) & (ratings <= 10)).all()
    assert abs(ratings.mean() - predicted.mean()) < 0.3
    assert 0.45 < torch.corrcoef(torch.stack([ratings, predicted]))[0, 1] < 0.95


def test_taste_prefers_contrast_sharpness_and_the_middle():
    scenes = sample_scenes(64, generator(1234, 2), single=1.0)
    pictures = Renderer()(scenes)
    sharp = judge_taste(scenes, pictures)
    assert all(((value >= 0) & (value <= 1)).all() for value in sharp.values())
    blurred = judge_taste(scenes, F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False))
    assert (blurred["sharpness"] < sharp["sharpness"]).float().mean() > 0.9
    faded = judge_taste(scenes, torch.lerp(2 * background(scenes, 64) - 1, pictures, 0.6))
    assert (faded["contrast"] <= sharp["contrast"]).float().mean() > 0.9
    scenes.centre.zero_()
    middle = judge_taste(scenes, Renderer()(scenes))
    assert (middle["centring"] >= sharp["centring"]).float().mean() > 0.9


def test_a_prompt_that_is_cut_is_told_once(tiny_clip, images, caplog):
    long = "a cat and " * 30 + "a fox"
    with caplog.at_level(logging.WARNING, logger="mira_pl"):
        for _ in range(2):
            CLIPScore(str(tiny_clip)).score(images[:1], [long])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the CLIP of a reward reads 24 tokens of the prompt 'a cat and")
    start, cut = re.findall(r"'([^']*)'", line)  # what is cut off is shown whole, the prompt by its beginning
    assert long.startswith(start.removesuffix("…")) and start.endswith("…") and len(start) == 60
    assert long.replace(" ", "").endswith(cut.replace(" ", "")) and len(cut) > 150


def test_a_clip_with_nan_names_file_and_tensor(tiny_clip, tmp_path):
    folder = Path(shutil.copytree(tiny_clip, tmp_path / "clip"))
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"model\.safetensors holds NaN or infinity in 'visual_projection"):
        CLIPScore(str(folder))


def test_another_model_is_named(tiny_clip, tmp_path, tiny_sd):
    with pytest.raises(ValueError, match=r"is a CLIPTextModel by its config\.json, where a CLIPModel is needed"):
        CLIPScore(str(tiny_sd / "text_encoder"))
    with pytest.raises(ValueError, match=r"model\.safetensors holds a CLIPModel of transformers, not LAION's"):
        Aesthetic(str(tiny_clip), str(tiny_clip / "model.safetensors"))
    with pytest.raises(ValueError, match=r"holds a U-Net, not LAION's"):
        Aesthetic(str(tiny_clip), str(tiny_sd / "unet" / "diffusion_pytorch_model.safetensors"))
