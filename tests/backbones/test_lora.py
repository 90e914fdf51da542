"""A fused LoRA is the base model plus scale alpha / r B A at every layer, however the file names its tensors."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from original_layout import compvis_unet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mira_pl.backbones import SDXL, StableDiffusion
from mira_pl.backbones.latent import LatentDiffusion

PROMPTS = ["a cat", "a red dog"]
LINEAR = ("to_q", "to_v", "to_out.0", "ff.net.2", "proj_in", "q_proj", "out_proj", "fc1")
CONVOLUTIONS = ("conv1", "conv_shortcut")
Pairs = dict[str, tuple[Tensor, Tensor]]
Backbone = Callable[..., LatentDiffusion]


def parts_of(backbone: LatentDiffusion) -> dict[str, Any]:
    names = ("text_encoder", "text_encoder_2")[: len(backbone.encoders)]
    return {"unet": backbone.denoiser} | dict(zip(names, backbone.encoders, strict=True))


def random_pairs(part: nn.Module, seed: int = 0, endings: tuple[str, ...] = LINEAR + CONVOLUTIONS) -> Pairs:
    """A and B, of rank 2 or 3, for the layers with these names."""
    generator, pairs = torch.Generator().manual_seed(seed), {}
    layers = {path: module for path, module in part.named_modules() if path.endswith(endings)}
    for rank, (path, layer) in enumerate(layers.items()):
        (rows, *columns), r = layer.weight.shape, 2 + rank % 2
        down = 0.3 * torch.randn(r, *columns, generator=generator)
        up = 0.3 * torch.randn(rows, r, *[1] * (len(columns) - 1), generator=generator)
        pairs[path] = (down, up)
    return pairs


def text_model(name: str, path: str) -> str:
    """Files still have the wrapper that transformers has dropped."""
    return path if name == "unet" or path.startswith("text_model.") else f"text_model.{path}"


def peft_names(pairs: dict[str, Pairs], backbone: LatentDiffusion) -> dict[str, Tensor]:
    tensors = {}
    for name, own in pairs.items():
        for path, (down, up) in own.items():
            tensors |= {
                f"{name}.{text_model(name, path)}.lora_{side}.weight": x
                for side, x in zip("AB", (down, up), strict=True)
            }
    return tensors


def diffusers_names(pairs: dict[str, Pairs], backbone: LatentDiffusion) -> dict[str, Tensor]:
    tensors = {}
    for key, value in peft_names(pairs, backbone).items():
        infix = ".lora." if key.startswith("unet.") else ".lora_linear_layer."
        tensors[key.replace(".lora_A.", f"{infix}down.").replace(".lora_B.", f"{infix}up.")] = value
    return tensors


def kohya_names(pairs: dict[str, Pairs], backbone: LatentDiffusion, alpha: float | None = None) -> dict[str, Tensor]:
    """One flat name a layer; SDXL's U-Net by the names of its authors, SD's by those of diffusers."""
    first = "lora_te1" if len(backbone.encoders) == 2 else "lora_te"
    prefixes = {"unet": "lora_unet", "text_encoder": first, "text_encoder_2": "lora_te2"}
    tensors = {}
    for name, own in pairs.items():
        flat = sgm_names(backbone.denoiser) if name == "unet" and len(backbone.encoders) == 2 else {}
        for number, (path, (down, up)) in enumerate(own.items()):
            layer = f"{prefixes[name]}_{flat.get(path, text_model(name, path)).replace('.', '_')}"
            tensors |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
            if alpha is not None:
                tensors[f"{layer}.alpha"] = torch.tensor(alpha + number % 3)
    return tensors


def sgm_names(unet: nn.Module) -> dict[str, str]:
    """Layers of a U-Net by their authors' names: those of the same memory."""
    theirs = {value.data_ptr(): key for key, value in compvis_unet(unet, "x").items()}
    layers = {path: module for path, module in unet.named_modules() if path.endswith(LINEAR + CONVOLUTIONS)}
    return {path: theirs[m.weight.data_ptr()].removeprefix("x.").removesuffix(".weight") for path, m in layers.items()}


@contextmanager
def beside(part: nn.Module, pairs: Pairs, scale: float | dict[str, float]) -> Iterator[None]:
    """The LoRA as it is trained: every layer's output plus scale B A x."""

    def add(down: Tensor, up: Tensor, factor: float, layer: Any, given: Any, output: Tensor) -> Tensor:
        x, down, up = given[0], down.to(output), up.to(output)
        if down.dim() == 2:
            return output + factor * F.linear(F.linear(x, down), up)
        return output + factor * F.conv2d(F.conv2d(x, down, stride=layer.stride, padding=layer.padding), up)

    hooks = []
    for path, (down, up) in pairs.items():
        factor = scale[path] if isinstance(scale, dict) else scale
        hooks.append(part.get_submodule(path).register_forward_hook(partial(add, down, up, factor)))
    yield
    for hook in hooks:
        hook.remove()


def outputs(backbone: LatentDiffusion) -> list[Tensor]:
    x = torch.randn(2, *backbone.latent_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    condition = backbone.encode(PROMPTS)
    pooled = condition.positive.pooled
    return [condition.positive.tokens, backbone.eps(x, 0, condition)] + ([] if pooled is None else [pooled])


def expected(backbone: LatentDiffusion, *loras: tuple[dict[str, Pairs], float | dict[str, dict[str, float]]]):
    """The base model's outputs with LoRAs beside its layers."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        for pairs, scale in loras:
            for name, own in pairs.items():
                factor = scale[name] if isinstance(scale, dict) else scale
                stack.enter_context(beside(parts_of(backbone)[name], own, factor))
        return outputs(backbone)


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any] | None = None) -> Path:
    header = None if metadata is None else {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, header)
    return path


@pytest.fixture(params=["sd", "sdxl"])
def make(request: pytest.FixtureRequest, tiny_sd: Path, tiny_sdxl: Path) -> Backbone:
    if request.param == "sd":
        return partial(StableDiffusion, str(tiny_sd), steps=2, dtype="float64")
    return partial(SDXL, str(tiny_sdxl), steps=2, dtype="float64")


def all_pairs(backbone: LatentDiffusion, seed: int = 0) -> dict[str, Pairs]:
    return {name: random_pairs(part, seed) for name, part in parts_of(backbone).items()}


@pytest.mark.parametrize("names", [peft_names, diffusers_names, kohya_names])
def test_fused_is_base_plus_scale_times_b_a(make: Backbone, names: Callable[..., Any], tmp_path: Path) -> None:
    base = make()
    pairs, plain = all_pairs(base), outputs(base)
    file = write(tmp_path / "lora.safetensors", names(pairs, base))
    fused = make(lora=[str(file)], lora_scale=0.7)
    for ours, theirs, without in zip(outputs(fused), expected(base, (pairs, 0.7)), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
        assert (ours - without).abs().max() > 1e-3
    for ours, theirs in zip(parts_of(fused).values(), parts_of(base).values(), strict=True):
        assert [(name, type(m)) for name, m in ours.named_modules()] == [
            (name, type(m)) for name, m in theirs.named_modules()
        ]
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        assert not ours.training and all(not p.requires_grad for p in ours.parameters())


def test_kohyas_alphas_are_each_layers_own(make: Backbone, tmp_path: Path) -> None:
    """alpha / rank, where both differ from layer to layer."""
    base = make()
    pairs = all_pairs(base)
    file = write(tmp_path / "lora.safetensors", kohya_names(pairs, base, alpha=1.0))
    scales = {
        name: {path: (1.0 + number % 3) / len(down) for number, (path, (down, _)) in enumerate(own.items())}
        for name, own in pairs.items()
    }
    fused = make(lora=[str(file)])
    for ours, theirs in zip(outputs(fused), expected(base, (pairs, scales)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)  # alpha / r is folded in in float32


@pytest.mark.parametrize("rslora", [False, True])
def test_the_alphas_that_diffusers_writes_beside_the_tensors(make: Backbone, tmp_path: Path, rslora: bool) -> None:
    base = make()
    pairs = {"unet": random_pairs(base.denoiser)}
    settings = {"unet.lora_alpha": 5, "unet.alpha_pattern": {"attn2.to_q": 7}, "unet.use_rslora": rslora}
    file = write(tmp_path / "lora.safetensors", peft_names(pairs, base), settings)
    scales = {
        path: (7 if path.endswith("attn2.to_q") else 5) / len(down) ** (0.5 if rslora else 1)
        for path, (down, _) in pairs["unet"].items()
    }
    for ours, theirs in zip(outputs(make(lora=[str(file)])), expected(base, (pairs, {"unet": scales})), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_several_loras_with_a_scale_each(make: Backbone, tmp_path: Path) -> None:
    base = make()
    first, second = all_pairs(base, 1), {"unet": random_pairs(base.denoiser, 2, ("to_k",))}
    files = [
        str(write(tmp_path / "first.safetensors", peft_names(first, base))),
        str(write(tmp_path / "second.safetensors", kohya_names(second, base))) if len(base.encoders) == 1
        else str(write(tmp_path / "second.safetensors", peft_names(second, base))),
    ]  # fmt: skip
    fused = make(lora=files, lora_scale=[0.5, -1.5])
    for ours, theirs in zip(outputs(fused), expected(base, (first, 0.5), (second, -1.5)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    for ours, theirs in zip(outputs(make(lora=files, lora_scale=0.0)), outputs(base), strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_weights_are_rounded_once(tiny_sd: Path, tmp_path: Path) -> None:
    base = StableDiffusion(str(tiny_sd), steps=2, dtype="bfloat16")
    pairs = {"unet": random_pairs(base.denoiser)}
    file = write(tmp_path / "lora.safetensors", peft_names(pairs, base))
    fused = StableDiffusion(str(tiny_sd), steps=2, dtype="bfloat16", lora=[str(file)], lora_scale=0.3)
    for path, (down, up) in pairs["unet"].items():
        weight = base.denoiser.get_submodule(path).weight
        change = (up.flatten(1) @ down.flatten(1)).view_as(weight)
        assert torch.equal(fused.denoiser.get_submodule(path).weight, (weight.float() + 0.3 * change).bfloat16())


def test_folders_and_the_hub(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = StableDiffusion(str(tiny_sd), steps=2)
    pairs = {"unet": random_pairs(base.denoiser)}
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "pytorch_lora_weights.safetensors", peft_names(pairs, base))
    write(folder / "other.safetensors", peft_names(pairs, base))
    repository = tmp_path / "hub" / "models--someone--lora"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = str(folder / "other.safetensors")
    wanted = StableDiffusion(str(tiny_sd), steps=2, lora=[file]).denoiser.state_dict()
    for name in (str(folder), "someone/lora", "someone/lora/other.safetensors"):
        found = StableDiffusion(str(tiny_sd), steps=2, lora=[name]).denoiser.state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert "someone/nothing is no folder here" in error_of(OSError, tiny_sd, "someone/nothing/x.safetensors")


def error_of(kind: type[Exception], model: Path, *lora: object, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        StableDiffusion(str(model), steps=2, lora=[str(file) for file in lora], **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused(tiny_sd: Path, tiny_sdxl: Path, tmp_path: Path) -> None:
    base, xl = StableDiffusion(str(tiny_sd), steps=2), SDXL(str(tiny_sdxl), steps=2)
    good = peft_names({"unet": random_pairs(base.denoiser)}, base)
    key = "unet.mid_block.attentions.0.proj_in.lora_A.weight"
    assert key in good
    other = {
        "unet.mid_block.attentions.7.proj_in" + end: torch.ones(2, 2) for end in (".lora_A.weight", ".lora_B.weight")
    }
    layer = "unet.mid_block.attentions.0.proj_in"
    broken = {
        f"no layer takes its '{layer.replace('0', '7')}'": good | other,
        f"no layer takes its '{layer}'": {k: v for k, v in good.items() if k != key},
        f"no layer takes its '{layer}.bias'": good | {f"{layer}.bias": torch.ones(16)},
        f"no layer takes its '{layer}.lora_B.bias'": good | {f"{layer}.lora_B.bias": torch.ones(16)},
        "is B [16, 3] times A [3, 5] for a weight [16, 16, 1, 1]": good | {key: torch.ones(3, 5)},
        "no layer takes its 'text_encoder_3.x'": good | {"text_encoder_3.x.lora_A.weight": torch.ones(2, 2)},
        "no layer takes its 'x'": good | {"x.lora_A.weight": torch.ones(2, 2)},
        "Could not automatically infer": good | {"text_encoder.x": torch.ones(2, 2)},
        "it is a DoRA": good | {key.replace("lora_A", "lora_magnitude_vector"): torch.ones(16)},
        "no layer takes its 'conv_in.bias'": load_file(tiny_sd / "unet" / "diffusion_pytorch_model.safetensors"),
        "cannot be read as a LoRA": {"lora_unet_mid_block.hada_w1_a": torch.ones(2, 2)},
    }
    for message, tensors in broken.items():
        file = write(tmp_path / "broken.safetensors", tensors)
        assert message in error_of(ValueError, tiny_sd, file) and str(file) in error_of(ValueError, tiny_sd, file)
    for names in (peft_names, diffusers_names, kohya_names):
        of_sdxl = write(tmp_path / "xl.safetensors", names(all_pairs(xl), xl))
        assert "is no LoRA of this model" in error_of(ValueError, tiny_sd, of_sdxl)


def test_files_that_are_none(tiny_sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    file.write_bytes(b"123")
    assert f"{file} cannot be read as a LoRA" in error_of(ValueError, tiny_sd, file)
    assert "there is no file" in error_of(FileNotFoundError, tiny_sd, tmp_path / "none.safetensors")
    message = error_of(ValueError, tiny_sd, file, lora_scale=[1.0, 2.0])
    assert "lora_scale must be a finite number, or one for each of 1 LoRAs: got [1.0, 2.0]" in message
    with pytest.raises(ValueError, match="lora must be a list"):
        StableDiffusion(str(tiny_sd), steps=2, lora=str(file))
