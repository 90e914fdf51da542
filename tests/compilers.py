"""torch.compile on a CPU wants a C++ compiler, which not every laptop has."""

import os
import shutil
import subprocess
import sys

import pytest

NEEDS_COMPILER = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")


def without_compiler(*words: str) -> subprocess.CompletedProcess:
    """`python -m mira_pl` where torch finds none."""
    environment = os.environ | {"CXX": "/nowhere/g++", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "mira_pl", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
