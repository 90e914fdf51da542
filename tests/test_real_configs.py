"""The paper's configs run as they stand, offline, from a hub cache that holds tiny models of the real classes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peers import OpenCLIP, TimmViT, imagereward_checkpoint, tiny_open_clip
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig, CLIPConfig, CLIPModel

from mira_pl.rewards.clip import AestheticHead
from mira_pl.rewards.imagereward import Scorer
from mira_pl.world.tokens import MAX_TOKENS, build_tokenizer

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("emoji"))
REVISION = "0" * 40
RUN = """
import sys
from mira_pl.fit.cli import fit
for name in sys.argv[2:]:
    fewer = [] if "pixart" in name or "turbo" in name else ["--model.backbone.init_args.steps", "3"]
    fewer += ["--model.backbone.init_args.size", "8"] if "flux" in name else []
    fit(["--config", f"configs/{name}.yaml", "--model.iterations", "2", "--data.limit", "2", *fewer,
         "--out", f"{sys.argv[1]}/{name}", "--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false",
         "--trainer.accelerator", "cpu"])
"""


def publish(home: Path, repository: str, folder: Path, kind: str = "models") -> None:
    """A repository as huggingface_hub keeps it."""
    place = home / "hub" / f"{kind}--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / REVISION)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)


def clip(folder: Path, projection: int) -> Path:
    tokenizer = build_tokenizer()
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    tower |= {"projection_dim": projection, "hidden_act": "gelu"}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": MAX_TOKENS, "bos_token_id": 746}
    text = tower | words | {"eos_token_id": len(tokenizer) - 1}
    vision = tower | {"image_size": 28, "patch_size": 14}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hpsv2(folder: Path) -> Path:
    shape = tiny_open_clip(len(build_tokenizer()))
    weights = OpenCLIP(**shape).state_dict()
    for version in ("2", "2.1"):
        torch.save({"state_dict": weights}, folder / f"HPS_v{version}_compressed.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape}))
    return folder


def imagereward(folder: Path) -> Path:
    shared: dict[str, Any] = {"num_hidden_layers": 2, "intermediate_size": 64, "hidden_size": 64}
    vision = BlipVisionConfig(**shared, num_attention_heads=1, image_size=32, patch_size=16)
    text = BlipTextConfig(
        **shared, num_attention_heads=1, vocab_size=100, encoder_hidden_size=64, max_position_embeddings=64,
        is_decoder=True,
    )  # fmt: skip
    weights = imagereward_checkpoint(TimmViT(vision), Scorer(vision, text))
    torch.save(weights, folder / "ImageReward.pt")
    return folder


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = {
        name: request.getfixturevalue(f"tiny_{name}") for name in ("sd", "sdxl", "pixart", "sd3", "schnell", "sana")
    }
    home, made = tmp_path_factory.mktemp("hf_home"), tmp_path_factory.mktemp("made")
    torch.manual_seed(0)

    def new(name: str) -> Path:
        (made / name).mkdir()
        return made / name

    publish(home, "stable-diffusion-v1-5/stable-diffusion-v1-5", tiny["sd"])
    for repository in ("stabilityai/stable-diffusion-xl-base-1.0", "stabilityai/sdxl-turbo"):
        publish(home, repository, tiny["sdxl"])
    publish(home, "PixArt-alpha/PixArt-XL-2-1024-MS", tiny["pixart"])
    publish(home, "stabilityai/stable-diffusion-3.5-medium", tiny["sd3"])
    publish(home, "black-forest-labs/FLUX.1-schnell", tiny["schnell"])
    publish(home, "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", tiny["sana"])
    student = new("student")
    for part in ("transformer", "scheduler"):
        shutil.copytree(tiny["pixart"] / part, student / part)
    publish(home, "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512", student)
    publish(home, "openai/clip-vit-large-patch14", clip(new("clip-l"), 768))
    publish(home, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", clip(new("clip-h"), 16))
    publish(home, "yuvalkirstain/PickScore_v1", clip(new("pick"), 16))
    publish(home, "xswu/HPSv2", hpsv2(new("hps")))
    publish(home, "THUDM/ImageReward", imagereward(new("imagereward")))
    head = new("head")
    torch.save(AestheticHead(768).state_dict(), head / "aesthetic-model.pth")
    publish(home, "trl-lib/ddpo-aesthetic-predictor", head)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "red"]
    BertTokenizer(vocab={word: index for index, word in enumerate(words)}).save_pretrained(made / "bert")
    publish(home, "bert-base-uncased", made / "bert")
    (new("hpdv2") / "benchmark").mkdir()
    (made / "hpdv2" / "benchmark" / "anime.json").write_text(json.dumps(["a cat", "a red dog", "a dog"]))
    publish(home, "ymhao/HPDv2", made / "hpdv2", kind="datasets")
    (home / "mira_pl").mkdir()
    (home / "mira_pl" / "compbench_color_val.txt").write_text("a red cat and a blue dog\na green fox\n")
    return home


@pytest.mark.slow
def test_every_config_runs_offline_from_the_cache(home: Path, tmp_path: Path) -> None:
    names = [path.stem for path in CONFIGS]
    assert {"sdxl_hps", "sdxl_turbo_hps", "sd15_aesthetic", "pixart_compbench"} <= set(names)
    assert {"sd35_hps", "flux_hps", "sana_hps"} <= set(names)
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), *names], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        records = [json.loads(line) for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        wanted = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
        assert [record["status"] for record in records] == ["finished"] * 2, name
        assert all(record["clip"] is not None and record["iterations"] == 2 for record in records)
        assert all(record["method"] == wanted["model"]["objective"]["class_path"] for record in records)


def test_without_the_weights_it_is_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mira_pl", "fit", "--config", "configs/sdxl_hps.yaml", "--out", str(tmp_path / "run")],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mira_pl:")]
    assert "stabilityai/stable-diffusion-xl-base-1.0" in line or "hpdv2/anime" in line
