"""Commands against a real server on this machine, in a process of their own that looks for the hub there."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server import Command, Hub

ROOT = Path(__file__).parent.parent.parent
LISTEN = """
import contextlib, io, json, os, sys
from mira_pl.__main__ import main
for line in sys.stdin:
    asked = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    os.environ.pop("HF_TOKEN", None)
    os.environ.update(asked["environment"])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(asked["arguments"])
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="session")
def hub(repositories: dict[str, Path]) -> Iterator[Hub]:
    """All repositories of the configs, and what tests add to them."""
    server = Hub(dict(repositories))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HF_HOME of the commands: empty but for the prompts that come from GitHub."""
    home = tmp_path_factory.mktemp("fetched")
    (home / "mira_pl").mkdir()
    (home / "mira_pl" / "compbench_color_val.txt").write_text("a red cat and a blue dog\na green fox\n")
    return home


@pytest.fixture(scope="session")
def command(hub: Hub, cache: Path) -> Iterator[Command]:
    """Runs `mira_pl` with arguments; gives exit code, output and errors."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", LISTEN],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        asked: dict[str, Any] = {"arguments": arguments, "environment": variables}
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(asked), file=process.stdin, flush=True)
        return tuple(json.loads(process.stdout.readline()))

    yield run
    process.stdin.close()  # type: ignore[union-attr]
    process.wait()
