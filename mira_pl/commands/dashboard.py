"""`python -m mira_pl dashboard --project P`: the W&B workspace that shows fits and sweeps, written or pushed."""

from collections.abc import Sequence
from pathlib import Path

import wandb

from ..fit.logs import has_key
from ..runs import write_atomic
from ..sweep.dashboard import as_json, workspace
from .arguments import Arguments


def main(argv: Sequence[str]) -> None:
    """Write the workspace as JSON; with --push make it in the project, for which W&B wants a key.

    Raises:
        OSError: the server refused it.
    """
    parser = Arguments(prog="python -m mira_pl dashboard", description="The W&B workspace as code.")
    parser.add_argument("--project", default="mira_pl", help="the project of W&B")
    parser.add_argument("--entity", default="", help="user or team; default: that of the key")
    parser.add_argument("--push", action="store_true", help="make it in the project")
    parser.add_argument("--out", type=Path, default=Path("runs/dashboard.json"), help="where the JSON is written")
    options = parser.parse_args(list(argv))
    key = has_key()
    if options.push and key:
        print(push(options.entity, options.project))
        return
    write_atomic(options.out, as_json(workspace(options.entity, options.project)).encode())
    reason = "no key (WANDB_API_KEY or `wandb login`), so nothing was pushed: " if options.push else ""
    print(f"{reason}{options.out}")


def push(entity: str, project: str) -> str:
    """Make the workspace on the server; its address."""

    try:
        made = workspace(entity or str(wandb.Api().default_entity), project)
        made.save()
    except wandb.Error as error:
        raise OSError(f"W&B did not take the workspace: {error}") from error
    return made.url
