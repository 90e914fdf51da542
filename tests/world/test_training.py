"""Trainers of the world: a killed training ends with the same weights, in the layout that loads."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

import mira_pl
from mira_pl import StableDiffusion, draw
from mira_pl.backbones import PixArt
from mira_pl.commands.pretrain import main
from mira_pl.judges.truth import TruthJudge
from mira_pl.prompts import make_jobs
from mira_pl.rewards import HPSv2, PickScore
from mira_pl.trajectory import sample
from mira_pl.world.dit import DiTTraining
from mira_pl.world.preference import poll
from mira_pl.world.render import Renderer
from mira_pl.world.scenes import generator
from mira_pl.world.turbo import TurboTraining
from mira_pl.world.vae import VAETraining

PACKAGED = Path(mira_pl.__file__).parent / "assets"


def train(out: Path, trainer: str, steps: int = 4) -> None:
    main(
        (
            f"--model {trainer} --model.out {out} --model.steps {steps} --model.batch_size 2 --model.save_every 2 "
            "--trainer.enable_progress_bar false --trainer.accelerator cpu"
        ).split()
    )


@pytest.mark.slow
def test_killed_training_goes_on(tmp_path, monkeypatch):
    train(tmp_path / "one" / "model", "VAETraining")

    def killed() -> None:
        step = VAETraining.training_step

        def dying(self, batch, index):
            if self.global_step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, batch, index)

        VAETraining.training_step = dying
        train(tmp_path / "two" / "model", "VAETraining")

    child = os.fork()
    if child == 0:
        killed()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (tmp_path / "two" / "model").exists()
    train(tmp_path / "two" / "model", "VAETraining")
    weights = [load_file(tmp_path / name / "model" / "diffusion_pytorch_model.safetensors") for name in ("one", "two")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.slow
def test_exported_vae_loads_with_unit_latents(tmp_path):
    train(tmp_path / "model", "VAETraining", steps=2)
    vae = AutoencoderKL.from_pretrained(tmp_path / "model", low_cpu_mem_usage=False)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert vae.encode(images).latent_dist.mean.shape == (2, 8, 16, 16)
    assert vae.config.scaling_factor > 0


@pytest.mark.parametrize("trainer", ["CLIPTraining", "JudgeTraining"])
def test_other_trainers_export(tmp_path, trainer):
    train(tmp_path / "model", trainer, steps=2)
    assert list((tmp_path / "model").glob("*.safetensors"))


def test_clip_goes_on_from_a_folder_with_its_vocabulary(tmp_path):
    """Also from a vocabulary that the trainer would not build."""
    start = tmp_path / "start"
    shutil.copytree(PACKAGED / "clip", start)
    settings = json.loads((start / "tokenizer.json").read_text())
    words = settings["model"]["vocab"]
    words["fox</w>"], words["cat</w>"] = words["cat</w>"], words["fox</w>"]
    (start / "tokenizer.json").write_text(json.dumps(settings))
    train(tmp_path / "model", f"CLIPTraining --model.start {start} --model.lr 1e-9", steps=2)
    ids = [CLIPTokenizer.from_pretrained(folder)(["a fox"]).input_ids for folder in (start, tmp_path / "model")]
    assert ids[0] == ids[1] != CLIPTokenizer.from_pretrained(PACKAGED / "clip")(["a fox"]).input_ids
    weights = [CLIPModel.from_pretrained(folder, dtype=torch.float32) for folder in (start, tmp_path / "model")]
    pairs = zip(weights[0].parameters(), weights[1].parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=2e-3) for a, b in pairs)


def test_preferences_export_what_the_rewards_load(tmp_path):
    """PickScore reads transformers' layout, HPSv2 open_clip's; both are the tuned CLIP."""
    for layout in ("transformers", "open_clip"):
        trainer = f"PreferenceTraining --model.clip {PACKAGED}/clip --model.layout {layout}"
        train(tmp_path / layout, trainer, steps=2)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    prompts = ["a red fox", "a cat"]
    pick = PickScore(str(tmp_path / "transformers"), str(tmp_path / "transformers"))
    hps = HPSv2(str(tmp_path / "open_clip"), tokenizer=str(tmp_path / "open_clip"))
    start = PickScore(str(PACKAGED / "clip"), str(PACKAGED / "clip")).score(images, prompts)
    for tuned in (pick.score(images, prompts), hps.score(images, prompts) * hps.clip.model.logit_scale.exp()):
        assert not torch.equal(tuned, start) and (tuned - start).abs().max() < 20  # two steps do not unlearn CLIP


def test_people_choose_the_right_animal_and_the_better_picture():
    choices = poll(400, generator(0, 0), Renderer(), faithful=6.0, taste=0.0)
    judge = TruthJudge()
    right = torch.stack([judge.right_subject(side, choices.prompts) for side in (choices.first, choices.second)])
    apart = right[0] != right[1]
    assert 0.2 < apart.float().mean() < 0.4  # 2 * 0.8 * 0.2 where no other slip hits the same animal
    assert ((choices.share > 0.5) == right[0].bool())[apart].float().mean() > 0.97


@pytest.mark.slow
def test_unet_trains_its_text_tower_and_exports_a_pipeline(tmp_path):
    parts = f"UNetTraining --model.vae {PACKAGED}/emoji/vae --model.clip {PACKAGED}/clip --model.pictures 500"
    train(tmp_path / "unet" / "model", parts, steps=2)
    assert [file.name for file in (tmp_path / "unet" / "latents").iterdir()] == ["0000.safetensors"]
    backbone = StableDiffusion(str(tmp_path / "unet" / "model"), steps=2)
    clip = CLIPTextModel.from_pretrained(PACKAGED / "clip", dtype=torch.float32)
    assert any(not torch.equal(a, b) for a, b in zip(backbone.text.parameters(), clip.parameters(), strict=True))
    jobs = make_jobs(["a red fox"], [0])
    images = sample(backbone, backbone.encode(["a red fox"]), draw(jobs, backbone.noise_shape)).images
    assert images.shape == (1, 3, 64, 64) and images.isfinite().all()


def turbo(folder: Path) -> StableDiffusion:
    return StableDiffusion(student=str(folder), steps=1, guidance=1.0, sampler="euler_ancestral")


def dit(folder: Path) -> PixArt:
    return PixArt(str(folder), one_step_at=999, guidance=1.0)


@pytest.mark.slow
def test_one_step_students_share_their_pairs_and_export_what_loads(tmp_path):
    shared = f"--model.cache {tmp_path}/pairs --model.pairs 500 --model.teacher_steps 1"
    train(tmp_path / "turbo" / "model", f"TurboTraining {shared}", steps=2)
    (pairs,) = (tmp_path / "pairs").rglob("*.safetensors")
    written = pairs.stat().st_mtime_ns
    train(tmp_path / "dit" / "model", f"DiTTraining {shared}", steps=2)
    assert pairs.stat().st_mtime_ns == written
    for backbone in (turbo(tmp_path / "turbo" / "model"), dit(tmp_path / "dit" / "model")):
        noise = draw(make_jobs(["a red fox"], [0]), backbone.noise_shape)
        images = sample(backbone, backbone.encode(["a red fox"]), noise).images
        assert images.shape == (1, 3, 64, 64) and images.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "load", "packaged"), [(TurboTraining, turbo, "emoji_turbo"), (DiTTraining, dit, "emoji_dit")]
)
def test_what_a_student_learns_is_what_is_sampled(tmp_path, kind, load, packaged):
    """x_0 in training is x_0 by the backbone that loads the exported folder; the scheduler is the packaged one's."""
    training = kind(out=tmp_path)
    training.export(tmp_path)
    ours, theirs = (
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        for folder in (tmp_path, PACKAGED / packaged)
    )
    assert ours == theirs | {"_diffusers_version": ours["_diffusers_version"]}
    training.model = training.ema.module.float()  # rounded as the exported weights are
    training.teacher = StableDiffusion()  # in fp32
    prompts, backbone = ["a red fox", "generate an image of a cat and a green car"], load(tmp_path)
    noise = draw(make_jobs(prompts, [0]), backbone.noise_shape)
    with torch.no_grad():
        latents = sample(backbone, backbone.encode(prompts), noise).latents
        torch.testing.assert_close(training.predict(noise[:, 1], prompts), latents, atol=5e-4, rtol=0)
