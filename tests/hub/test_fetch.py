"""Downloads from a real server: exactly what is needed, gone on with after a break, refused where it is damaged."""

import hashlib
import random
import shutil
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from server import TOKEN, Command, Hub

from mira_pl.hub import WebFile, fetch

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
BACKBONE = "--model.backbone.init_args"
BRIGHT = ["--config", "configs/sd15_brightness.yaml", "--model.clip", "null"]
LOADED = {
    "model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json", "tokenizer/vocab.json", "tokenizer/merges.txt", "text_encoder/config.json",
    "text_encoder/model.safetensors", "unet/config.json", UNET, "vae/config.json", VAE,
}  # fmt: skip
Publish = Callable[[str], Path]


@pytest.fixture
def new(hub: Hub, repositories: dict[str, Path], tmp_path: Path) -> Publish:
    """Publishes a Stable Diffusion of one's own under a name that no cache knows; returns its folder."""

    def publish(name: str) -> Path:
        source = repositories["stable-diffusion-v1-5/stable-diffusion-v1-5"]
        hub.repositories[name] = Path(shutil.copytree(source, tmp_path / "published"))
        return hub.repositories[name]

    return publish


def of(name: str) -> list[str]:
    return [*BRIGHT, f"{BACKBONE}.model", name]


def fetched(cache: Path, name: str) -> dict[str, bytes]:
    """Content of the files of a repository that are in the cache."""
    snapshots = cache / "hub" / f"models--{name.replace('/', '--')}" / "snapshots"
    (folder,) = snapshots.iterdir()
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a command that failed with exit code 2."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("mira_pl:")]
    assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@pytest.mark.slow
def test_exactly_what_is_loaded_comes(command: Command, cache: Path, new: Publish) -> None:
    folder = new("us/whole")
    code, out, err = command("fetch", *of("us/whole"))
    assert code == 0, err
    files = fetched(cache, "us/whole")
    assert set(files) == LOADED
    assert all(content == (folder / name).read_bytes() for name, content in files.items())
    assert f"us/whole: unet/config.json, {UNET} (" in out and "ready: python -m mira_pl fit" in out


def test_a_second_time_reads_and_downloads_nothing(command: Command, hub: Hub, new: Publish) -> None:
    new("us/again")
    assert command("fetch", *of("us/again"))[0] == 0
    hub.asked.clear()
    assert command("fetch", *of("us/again"))[0] == 0
    assert hub.asked == []


def test_a_broken_connection_goes_on_where_it_broke(command: Command, cache: Path, hub: Hub, new: Publish) -> None:
    """After half of 24 MiB; the client keeps pieces of 10 MiB."""
    content = random.Random(0).randbytes(24 << 20)
    (new("us/cut") / UNET).write_bytes(content)
    hub.faults[UNET] = ["cut"]
    hub.asked.clear()
    code, _, err = command("fetch", *of("us/cut"))
    assert code == 0, err
    assert [wanted for name, wanted in hub.asked if name == UNET] == [None, f"bytes={10 << 20}-"]
    assert fetched(cache, "us/cut")[UNET] == content


def test_what_a_killed_fetch_left_is_gone_on_with(command: Command, cache: Path, hub: Hub, new: Publish) -> None:
    """The files that were whole stay; what is optional came first, so that the part is still known to be missing."""
    new("us/killed")
    assert command("fetch", *of("us/killed"))[0] == 0
    snapshot = next((cache / "hub" / "models--us--killed" / "snapshots").iterdir())
    for name in (UNET, VAE):
        (snapshot / name).resolve().unlink()
        (snapshot / name).unlink()
    code, out, _ = command("doctor", *of("us/killed"))
    assert code == 1 and f"missing             {UNET}" in out and "here" in out
    hub.asked.clear()
    assert command("fetch", *of("us/killed"))[0] == 0
    assert {name for name, _ in hub.asked} == {UNET, VAE}


@pytest.mark.parametrize("name", [UNET, "unet/config.json"], ids=["sha256", "git"])
def test_a_damaged_download_is_refused_and_not_kept(
    command: Command, cache: Path, hub: Hub, new: Publish, name: str
) -> None:
    repository = f"us/flip-{Path(name).stem}"
    new(repository)
    hub.faults[name] = ["flip", "flip"]
    line = refused(command("fetch", *of(repository)))
    assert f"{name} of {repository} came twice without the checksum" in line
    assert name not in fetched(cache, repository)
    assert command("fetch", *of(repository))[0] == 0


def test_a_file_that_was_damaged_on_disk_is_replaced(command: Command, cache: Path, new: Publish) -> None:
    folder = new("us/rot")
    assert command("fetch", *of("us/rot"))[0] == 0
    snapshot = next((cache / "hub" / "models--us--rot" / "snapshots").iterdir())
    blob = (snapshot / UNET).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    assert hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name
    assert command("fetch", *of("us/rot"))[0] == 0
    assert fetched(cache, "us/rot")[UNET] == (folder / UNET).read_bytes()


def test_fit_fetches_before_it_loads(command: Command, cache: Path, new: Publish, tmp_path: Path) -> None:
    new("us/fit")
    settings = ["--model.iterations", "1", f"{BACKBONE}.steps", "2", "--data.limit", "1"]
    quiet = ["--wandb.mode", "disabled", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    code, _, err = command("fit", *of("us/fit"), *settings, *quiet, "--out", str(tmp_path / "run"))
    assert code == 0, err
    assert set(fetched(cache, "us/fit")) == LOADED and (tmp_path / "run" / "records.jsonl").exists()


def test_a_gated_model_names_its_page_and_the_login(command: Command, hub: Hub, new: Publish, tmp_path: Path) -> None:
    new("us/gated")
    hub.gated.add("us/gated")
    for name in ("fetch", "fit"):
        line = refused(command(name, *of("us/gated"), "--out", str(tmp_path / "run")))
        assert f"us/gated is gated: accept its terms at {hub.url}/us/gated, then run `hf auth login`" in line
    assert not (tmp_path / "run").exists()
    code, _, err = command("fetch", *of("us/gated"), HF_TOKEN=TOKEN)
    assert code == 0, err


def test_a_renamed_repository_is_kept_under_the_name_that_was_asked_for(
    command: Command, cache: Path, hub: Hub, new: Publish
) -> None:
    new("them/new-name")
    hub.renamed["us/old-name"] = "them/new-name"
    code, _, err = command("fetch", *of("us/old-name"))
    assert code == 0, err
    assert set(fetched(cache, "us/old-name")) == LOADED
    assert command("doctor", *of("us/old-name"))[0] == 0


def test_a_mirror_that_names_no_checksums(command: Command, cache: Path, hub: Hub, new: Publish) -> None:
    """Nothing can be compared: what comes is taken."""
    new("us/bare")
    hub.bare.add("us/bare")
    code, _, err = command("fetch", *of("us/bare"))
    assert code == 0, err
    assert set(fetched(cache, "us/bare")) == LOADED


def test_no_such_repository(command: Command, hub: Hub) -> None:
    line = refused(command("fetch", *of("us/nowhere")))
    assert f"us/nowhere is neither a local folder nor a repository at {hub.url}" in line


def test_pickles_alone_are_refused_before_a_byte_of_weights(command: Command, hub: Hub, new: Publish) -> None:
    folder = new("us/pickled")
    (folder / UNET).unlink()
    hub.asked.clear()
    line = refused(command("fetch", *of("us/pickled")))
    assert "us/pickled has its weights as a pickle alone (unet/diffusion_pytorch_model.bin)" in line
    assert "safetensors/convert-weights" in line
    assert not any(name.startswith("unet/diff") for name, _ in hub.asked)


def test_another_class_is_refused_before_its_weights(command: Command, hub: Hub) -> None:
    hub.asked.clear()
    line = refused(command("fetch", *of("stabilityai/sdxl-turbo")))
    assert "is a StableDiffusionXLPipeline by its model_index.json" in line
    assert "where a StableDiffusionPipeline or LatentConsistencyModelPipeline is needed: SDXL reads it" in line
    assert {name for name, _ in hub.asked} <= {"model_index.json"}


def test_a_model_that_lacks_a_file(command: Command, new: Publish) -> None:
    (new("us/lacking") / "vae" / "config.json").unlink()
    assert "us/lacking on the hub has no vae/config.json" in refused(command("fetch", *of("us/lacking")))


def test_a_full_disk(command: Command, cache: Path, hub: Hub, new: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file larger than every disk: known before the first byte, and nothing of it is kept."""
    new("us/large")
    monkeypatch.setitem(hub.announced, UNET, 10**18)
    hub.asked.clear()
    line = refused(command("fetch", *of("us/large")))
    assert f"{UNET} of us/large has 1000000000.0 GB, but" in line and "HF_HOME" in line
    assert UNET not in {name for name, _ in hub.asked} and UNET not in fetched(cache, "us/large")


def test_a_single_file_says_what_goes_with_it(command: Command, cache: Path, hub: Hub) -> None:
    """Its family is known when it is here; of the official model no weights come. LoRAs come alone."""
    given = [
        *of("us/checkpoints/v1-5.safetensors"),
        f"{BACKBONE}.lora",
        '["us/style", "us/loras/sd15/detail.safetensors"]',
    ]
    code, out, _ = command("doctor", *given)
    assert code == 1 and "missing             v1-5.safetensors" in out and "stable-diffusion-v1-5" not in out
    hub.asked.clear()
    code, _, err = command("fetch", *given)
    assert code == 0, err
    weights = ["v1-5.safetensors", "pytorch_lora_weights.safetensors", "sd15/detail.safetensors"]
    assert [name for name, _ in hub.asked if name.endswith(".safetensors")] == weights
    assert [*fetched(cache, "us/checkpoints")] == weights[:1] and [*fetched(cache, "us/loras")] == weights[2:]
    code, out, _ = command("doctor", *given)
    listed = {line.split()[-1] for line in out.splitlines() if line.startswith("  here")}
    assert code == 0 and listed == {*weights, *(name for name in LOADED if not name.endswith(".safetensors"))}


@pytest.mark.slow
def test_what_is_fetched_for_the_papers_configs_is_what_they_need(command: Command, tmp_path: Path) -> None:
    """From an empty cache: `doctor` misses files, `fetch` brings them, `doctor` is content, `fit` runs."""
    for name in ("sdxl_hps", "pixart_compbench", "sd15_aesthetic"):
        given = ["--config", f"configs/{name}.yaml"]
        code, out, _ = command("doctor", *given)
        assert code == 1 and f"python -m mira_pl fetch --config configs/{name}.yaml" in out
        code, _, err = command("fetch", *given)
        assert code == 0, err
        code, out, _ = command("doctor", *given)
        assert code == 0 and "missing" not in out, out
        small = ["--model.iterations", "1", "--data.limit", "1", "--out", str(tmp_path / name)]
        steps = [] if "pixart" in name else [f"{BACKBONE}.steps", "2"]
        quiet = ["--wandb.mode", "disabled", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
        code, _, err = command("fit", *given, *small, *steps, *quiet)
        assert code == 0, err
        saved = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        assert "/" in saved["model"]["backbone"]["init_args"]["model"]  # the hub id, not where it lies


def test_a_file_of_the_web_is_fetched_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "color_val.txt").write_text("a red cat\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        need = WebFile(f"{url}/color_val.txt", "prompts.txt")
        (path,) = fetch(need).files.values()
        (tmp_path / "served" / "color_val.txt").unlink()
        assert fetch(need).files == {"prompts.txt": path} and path.read_text() == "a red cat\n"
        with pytest.raises(FileNotFoundError, match=r"none\.txt cannot be fetched: HTTP Error 404"):
            fetch(WebFile(f"{url}/none.txt", "none.txt"))
        server.shutdown()
    assert [file.name for file in path.parent.iterdir()] == ["prompts.txt"]
