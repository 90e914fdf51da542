"""Stands in for `fit` where a drill needs many trials: the same flags, lock and records, a job in a moment."""

import fcntl
import json
import os
import sys
import time
from pathlib import Path


def main(argv: list[str]) -> int:
    flags = dict(zip(argv[::2], argv[1::2], strict=True))
    out, beta = Path(flags["--out"]), float(flags["--model.objective.beta"])
    prompts, pause = json.loads(flags["--data.prompts"]), float(os.environ.get("QUICK_PAUSE", "0.05"))
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (out / "starts.txt").open("a") as starts:
            starts.write(f"{os.getpid()}\n")
        if beta == 13:
            print("mira_pl: thirteen is no beta", file=sys.stderr)
            return 2
        if beta == 9:
            os.kill(os.getpid(), 9)
        path = out / "records.jsonl"
        done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for index, prompt in list(enumerate(prompts))[len(done) :]:
            time.sleep(pause)
            done.append(record(prompt, index, beta))
            temporary = out / "records.tmp"
            temporary.write_text("".join(json.dumps(one) + "\n" for one in done))
            temporary.replace(path)
    return 0


def record(prompt: str, index: int, beta: float) -> dict:
    value = {"reward": 1 - beta / 10 + index / 100, "drift": -1 / (1 + beta), "clip": 50 + beta, "elbo": None}
    if beta == 7:
        value["reward"] = None
    more = {"prompt": prompt, "seed": 0, "reward_start": 0.0, "score_difference": 0.1, "seconds": 0.1}
    return {"key": key(prompt), "status": "finished", "compute": {"unet": 10}} | more | value


def key(prompt: str) -> str:
    """As `mira_pl.prompts.job_key`, which takes seconds to import."""
    import hashlib
    import re

    slug = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[-40:].strip("-")
    return f"{slug}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}-s0"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
