"""Children: their group, their last words, their share of the machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mira_pl.sweep.child import run, share


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_exit_code_and_last_line(tmp_path):
    program = "import sys; print('one'); print('mira_pl: no', file=sys.stderr); sys.exit(2)"
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    assert run([sys.executable, "-c", program], tmp_path / "log", plain, lambda: None) == (2, "mira_pl: no")
    assert run(["sh", "-c", "kill -9 $$"], tmp_path / "log", os.environ, lambda: None) == (-9, "nothing was said")
    assert "one" in (tmp_path / "log").read_text()  # appended


def test_a_child_has_a_wandb_process_of_its_own(tmp_path):
    environment = os.environ | {"WANDB_SERVICE": "3-1-unix-socket", "A": "b"}
    said = run(["sh", "-c", "echo $A ${WANDB_SERVICE-none}"], tmp_path / "log", environment, lambda: None)
    assert said == (0, "b none")


def test_the_whole_group_goes(tmp_path):
    """A grandchild that ignores SIGTERM, when the look raises."""
    program = "trap '' TERM; sleep 1000 & echo $! > pid; wait"

    def look() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip():
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mira_pl.sweep.child.PATIENCE", 0.5)
        patch.chdir(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            run(["sh", "-c", program], tmp_path / "log", os.environ, look)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(pid)


def test_a_full_disk_is_told(tmp_path):
    """The log's first line takes a block, so that there is room for the reason."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        program = "dd if=/dev/zero of=big bs=1k count=200 2>/dev/null || echo 'no space left'; exit 2"
        words = ["sh", "-c", f"cd {tmp_path} && {program}"]
        assert run(words, tmp_path / "log", os.environ, lambda: None) == (2, "no space left")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_gpus_are_shared_out_and_threads_where_there_is_none():
    cores = len(os.sched_getaffinity(0))
    assert share(1, 2, 4, {"A": "b"}) == {"A": "b", "CUDA_VISIBLE_DEVICES": "1"}
    assert share(2, 3, 2, {"CUDA_VISIBLE_DEVICES": "5,7"})["CUDA_VISIBLE_DEVICES"] == "5"
    assert share(1, 2, 0, {}) == {"OMP_NUM_THREADS": str(max(1, cores // 2))}
    assert share(0, 2, 0, {"OMP_NUM_THREADS": "3"}) == {"OMP_NUM_THREADS": "3"}  # the user's
    assert share(0, 1, 4, {"A": "b"}) == {"A": "b"}
