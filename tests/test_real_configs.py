"""The configs run as they stand, offline, from a hub cache that holds tiny models of the real classes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.stem.startswith("emoji"))
REWARDS = sorted((ROOT / "configs" / "rewards").glob("*.yaml"))
BACKBONE = "--model.backbone.init_args"
CASES = {path.stem: ["--config", f"configs/{path.stem}.yaml"] for path in CONFIGS} | {
    "single_file": ["--config", "configs/sd15_hps.yaml", f"{BACKBONE}.model", "us/checkpoints/v1-5.safetensors"],
    "single_file_xl": [
        *("--config", "configs/sdxl_hps.yaml", f"{BACKBONE}.model", "us/checkpoints/xl/xl.safetensors"),
        *(f"{BACKBONE}.vae", "madebyollin/sdxl-vae-fp16-fix"),
    ],
    "lora": [
        *("--config", "configs/sd15_hps.yaml", f"{BACKBONE}.lora", '["us/style", "us/loras/sd15/detail.safetensors"]'),
        *(f"{BACKBONE}.lora_scale", "[0.5, 1.0]"),
    ],
}
CASES |= {
    f"turbo_{path.stem}": ["--config", "configs/sdxl_turbo_hps.yaml", "--config", f"configs/rewards/{path.name}"]
    for path in REWARDS
}
"""Arguments by name: every config, what a backbone may load beside folders, and one backbone with every reward."""

RUN = """
import contextlib, gc, io, json, sys
from pathlib import Path
sys.path.append("tests")
from mira_pl.__main__ import main
from opened import Opened
home, out, cases = sys.argv[1:]
opened, found = Opened(Path(home)), {}
for name, given in json.loads(cases).items():
    steps = [] if "pixart" in name or "turbo" in name else ["--model.backbone.init_args.steps", "3"]
    steps += ["--model.backbone.init_args.size", "8"] if "flux" in name else []
    listed = io.StringIO()
    with contextlib.redirect_stdout(listed):
        code = main(["doctor", *given, "--out", f"{out}/{name}"])
    gc.collect()  # a CLIP that a run before holds would be shared, not opened
    opened.take()
    run = main(["fit", *given, "--model.iterations", "2", "--data.limit", "2", *steps, "--out", f"{out}/{name}",
                "--wandb.mode", "disabled", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"])
    found[name] = {"codes": [code, run], "doctor": listed.getvalue(), "opened": sorted(map(str, opened.take()))}
Path(out, "found.json").write_text(json.dumps(found))
"""


def offline(home: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess:
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def ran(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the runs of all configs, with found.json: by config, exit codes, doctor's list, files opened by fit."""
    out = tmp_path_factory.mktemp("ran")
    assert {"sdxl_hps", "sdxl_turbo_hps", "sd15_aesthetic", "pixart_compbench"} <= set(CASES)
    assert {"sd35_hps", "flux_hps", "sana_hps"} <= set(CASES)
    done = offline(home, ["-c", RUN, str(home), str(out), json.dumps(CASES)])
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_config_runs_offline_from_the_cache(ran: Path, name: str) -> None:
    records = [json.loads(line) for line in (ran / name / "records.jsonl").read_text().splitlines()]
    wanted = yaml.safe_load((ROOT / CASES[name][1]).read_text())
    assert [record["status"] for record in records] == ["finished"] * 2
    assert all(record["clip"] is not None and record["iterations"] == 2 for record in records)
    assert all(record["method"] == wanted["model"]["objective"]["class_path"] for record in records)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
@pytest.mark.parametrize("name", CASES)
def test_doctor_lists_the_files_that_fit_opens_and_no_others(ran: Path, home: Path, name: str) -> None:
    found = json.loads((ran / "found.json").read_text())[name]
    assert found["codes"] == [0, 0]
    opened = {of_repository(home, Path(path)) for path in found["opened"]} - {None}
    assert len(opened) > 10 and opened == listed(found["doctor"])


def of_repository(home: Path, path: Path) -> tuple[str, str] | None:
    """Repository and name of a file of the cache; None for the cache's own files."""
    parts = path.relative_to(home).parts
    if parts[0] == "mira_pl":
        return "compbench", parts[1]
    if parts[2] != "snapshots":
        return None
    return parts[1].split("--", 1)[1].replace("--", "/"), "/".join(parts[4:])


def listed(doctor: str) -> set[tuple[str, str]]:
    """Repository and name of the files that doctor's output says are here."""
    files, source = set(), ""
    for line in doctor.splitlines():
        if line.startswith(("model.", "data:")):
            source = line.split(": ", 1)[1].split(" (")[0]
            source = "compbench" if source.startswith("https:") else source
        elif line.startswith("  here"):
            files.add((source, line.split()[-1]))
    return files


@pytest.mark.slow
def test_without_the_weights_it_is_one_line(tmp_path: Path) -> None:
    given = ["--config", "configs/sdxl_hps.yaml", "--out", str(tmp_path / "run")]
    done = offline(tmp_path / "empty", ["-m", "mira_pl", "fit", *given])
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mira_pl:")]
    assert "Traceback" not in done.stderr and "HF_HUB_OFFLINE is set" in line
    assert "stabilityai/stable-diffusion-xl-base-1.0, xswu/HPSv2" in line and "ymhao/HPDv2" in line
    assert line.endswith(f"python -m mira_pl fetch --config configs/sdxl_hps.yaml --out {tmp_path / 'run'}")
