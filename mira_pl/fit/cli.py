"""`python -m mira_pl fit`: YAML and flags to objects, one line for whatever is wrong, then Lightning's Trainer."""

import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import diffusers
import lightning as L
import transformers
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import enable_progress_bars
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import mira_pl.backbones
import mira_pl.objectives
import mira_pl.rewards
import mira_pl.searches

from ..hub.hollow import hollow
from ..identity import config_hash
from ..runs import RunFolder
from .batch import out_of_memory, settled
from .checks import DEFAULTS, INDEPENDENT, check_trainer, processes, strategy
from .data import PromptData
from .defaults import below
from .logs import Wandb, WandbResults, make_logger
from .module import NoiseAlignment
from .needs import ensure
from .progress import RunProgress
from .search import NoiseSearch
from .solver import Solver
from .state import FAILED, STATUS
from .strategy import IndependentDDP

DEFAULT_MODEL = "mira_pl.fit.NoiseAlignment"
MODULES = (mira_pl.backbones, mira_pl.objectives, mira_pl.rewards, mira_pl.searches)
MODELS = (NoiseAlignment, NoiseSearch)
PARTS = [*MODELS, *(vars(module)[name] for module in MODULES for name in module.__all__)]
OUT_OF_MEMORY = (
    "out of memory: add --model.engine checkpoint --model.store_steps 0 to the same command, which then goes on; or "
    "lower data.batch_size, or take model.backbone.dtype bfloat16; these change digits: --overwrite or another --out"
)
SEARCH_OUT_OF_MEMORY = (
    "out of memory: lower model.search.chunk or data.batch_size; these change digits: --overwrite or another --out"
)
COMPONENTS = [part.__name__ for part in PARTS]
PARAMETERS = [name for part in PARTS for name in signature(part).parameters]


class OneLineParser(LightningArgumentParser):
    """An argument parser that answers a mistake with one line instead of its whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        if not self.exit_on_error:
            super().error(message, ex)
        fail(one_line(message, self))

    def add_subclass_arguments(self, baseclass: Any, nested_key: str, **options: Any) -> Any:
        """Configs that name no class of model mean the default one."""
        default = {"default": {"class_path": DEFAULT_MODEL}} if baseclass is Solver else {}
        return super().add_subclass_arguments(baseclass, nested_key, **default, **options)


def one_line(message: str, parser: OneLineParser) -> str:
    """The first statement of jsonargparse's message, with a suggestion for a misspelt name of a key or a class."""
    text = " ".join(message.split())
    near: list[str] = []
    if found := re.search(r'.*Parser key "(?P<key>[\w.]+)".* dot import path string: (?P<name>[\w.]+)', text):
        text = f"no {found['key']} is called {found['name']!r}"
        near = difflib.get_close_matches(found["name"].split(".")[-1], COMPONENTS, 1, 0.7)
    elif found := re.search(r"(?:[Oo]ption '|unrecognized arguments: --)(?P<name>[\w.]+)", text):
        group, keys = re.search(r"Group '([\w.]+)' does not", text), [action.dest for action in parser._actions]
        name, roots = f"{group[1]}.{found['name']}" if group else found["name"], {key.split(".")[0] for key in keys}
        misspelt, _, inside = name.partition(".")
        near = difflib.get_close_matches(name, keys + PARAMETERS, 1, 0.8)
        if inside and misspelt not in roots:
            near = difflib.get_close_matches(misspelt, roots, 1, 0.7)
        near = [known for known in near if known != name]  # a parameter of another class is not misspelt
    return f"{text[:300]}. Did you mean {near[0]!r}?" if near else text[:400]


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"mira_pl: {message}", file=sys.stderr)
    raise SystemExit(2)


class FitCLI(LightningCLI):
    """LightningCLI with the run folder and W&B beside model, data and trainer; weights are fetched before it builds."""

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        self.arguments = arguments
        super().__init__(Solver, PromptData, subclass_mode_model=True, **options)

    def before_instantiate_classes(self) -> None:
        trainer = plain(self)["trainer"]
        check_trainer(trainer)
        self.config.trainer.strategy = strategy(trainer)

    def instantiate_classes(self) -> None:
        ensure(plain(self), self.arguments)
        try:
            super().instantiate_classes()
        except MisconfigurationException as error:
            raise ValueError(f"the trainer cannot run so: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """With our progress bar, where there is to be one and the configuration brings none of its own."""
        given = self.config_init["trainer"]
        brought = any(isinstance(callback, ProgressBar) for callback in given["callbacks"] or [])
        wanted = given["enable_progress_bar"] is not False and not brought
        return super().instantiate_trainer(**kwargs, callbacks=[*(given["callbacks"] or []), *[RunProgress()] * wanted])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=Path, default=Path("runs/fit"), help="the run folder")
        parser.add_argument(
            "--overwrite",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="delete a run that stands in the folder, unless it is an unfinished one of this configuration",
        )
        parser.add_argument("--wandb", type=Wandb, default=Wandb(), help="W&B settings")


CLI = TypeVar("CLI", bound=FitCLI)


class ParsedCLI(FitCLI):
    """The configuration alone: nothing is fetched, nothing is built."""

    def instantiate_classes(self) -> None:
        pass

    def rehearse(self) -> None:
        """Build everything from files that are all here, but with networks that have no weights.

        Raises:
            ValueError: a class refuses its settings, as it would refuse them in the fit.
        """
        with hollow():
            super().instantiate_classes()
        self.config_init["wandb"].resolved()


def build(argv: Sequence[str]) -> FitCLI:
    """Parse and construct everything; nothing is written yet.

    Raises:
        ValueError: a setting cannot be, or the machine has not what the Trainer is to run on.
    """
    return _called(FitCLI, argv)


def parse(argv: Sequence[str]) -> ParsedCLI:
    """The configuration of a command line, with nothing built.

    Raises:
        ValueError: a setting of the trainer cannot be.
    """
    return _called(ParsedCLI, argv)


def _called(cli: type[CLI], argv: Sequence[str]) -> CLI:
    if INDEPENDENT not in StrategyRegistry.available_strategies():
        StrategyRegistry.register(INDEPENDENT, IndependentDDP, description=IndependentDDP.__doc__ or "")
    return cli(
        argv,
        run=False,
        args=[*from_environment(), *below(argv), *argv],
        parser_class=OneLineParser,
        parser_kwargs={"default_env": True, "env_prefix": "MIRA", "allow_abbrev": False},
        save_config_callback=None,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        trainer_defaults=DEFAULTS,
    )


def fit(argv: Sequence[str]) -> None:
    """Optimise the noises of every job of the configuration; go on where an earlier run of the same stopped."""
    hush()
    cli = build(argv)
    config = plain(cli)
    run = RunFolder(Path(cli.config["out"]))
    cli.config_init["wandb"].resolved()  # before anything is written
    if cli.trainer.is_global_zero:  # which tells the others
        device, world = cli.trainer.strategy.root_device, processes(config["trainer"])
        config = settled(config, cli.model, cli.datamodule, run, device, world)
        cli.datamodule.cut(config["data"]["batch_size"])
    overwrite = cli.config["overwrite"]
    if overwrite and cli.trainer.is_global_zero and unfinished(run, config, cli.datamodule.order()):
        overwrite = False
        print(f"mira_pl: {run.path} is unfinished and goes on; to begin anew, delete it", file=sys.stderr)
    with run.opened(config, overwrite) if cli.trainer.is_global_zero else nullcontext():
        solve(cli, config, run)


def unfinished(run: RunFolder, config: Mapping[str, Any], keys: Sequence[str]) -> bool:
    """Whether the folder holds a sound run of this configuration that lacks jobs.

    `--overwrite` spares it: the same command after a kill then goes on, instead of deleting what it has done.
    """
    try:
        run.check(config)
        return run.config_path.exists() and bool(set(keys) - {record["key"] for record in run.records()})
    except (OSError, ValueError):  # another run, or a damaged one
        return False


def solve(cli: FitCLI, config: dict[str, Any], run: RunFolder) -> None:
    """Run the trainer on an open folder."""
    module = cli.model
    module.run, module.config_hash = run, config_hash(config)
    logger = make_logger(cli.config_init["wandb"], run.path, config, module.method, module.reward.name)
    connect_loggers(cli.trainer, logger, run)
    try:
        cli.trainer.fit(module, cli.datamodule)
    except SystemExit as stop:  # Lightning has caught Ctrl-C
        if not cli.trainer.interrupted:
            raise
        print(f"mira_pl: stopped; the same command goes on where {run.path} stands", file=sys.stderr)
        raise SystemExit(130) from stop
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ValueError(SEARCH_OUT_OF_MEMORY if isinstance(module, NoiseSearch) else OUT_OF_MEMORY) from error
    if cli.trainer.is_global_zero:
        print(summary(run, len(cli.datamodule.jobs)))


def summary(run: RunFolder, jobs: int) -> str:
    """How many jobs are done, and how many of them failed."""
    records = run.records()
    failed = sum(record["status"] == STATUS[FAILED] for record in records)
    more = f"; {failed} failed: see status in {run.path / 'records.jsonl'}" if failed else ""
    return f"{len(records)} of {jobs} jobs done: {run.path / 'contact.png'}{more}"


def hush() -> None:
    """No advertisements, no bars for loading weights: what is printed is progress and the result."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for library in (transformers, diffusers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()  # what does not fit is reported by `mira_pl.hub`, in one line
    if not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()  # of downloads, which transformers has just turned off too
    for text in (
        r".*LightningCLI.s args parameter.*",
        r".*LeafSpec.*deprecated.*",
        r".*does not have many workers.*",
        r".*lr_scheduler\.step.*",
        r".*will run with no optimizer.*",  # searches
        r"Dynamo detected a call to a `functools\.lru_cache`.*",  # in diffusers, where nothing is cached that changes
    ):
        warnings.filterwarnings("ignore", message=text)


def connect_loggers(trainer: L.Trainer, logger: Any, run: RunFolder) -> None:
    """W&B and its callback, where it is not disabled."""
    if logger is not None:
        trainer.loggers = [logger]
        trainer.callbacks.append(WandbResults(run))  # pyright: ignore[reportAttributeAccessIssue]


def from_environment() -> list[str]:
    """The variables MIRA_MODEL__X as flags: jsonargparse reads none for the arguments of a class that may change."""
    named = [(re.fullmatch(r"MIRA_MODEL__([A-Z]+(_[A-Z]+)*)", name), os.environ[name]) for name in sorted(os.environ)]
    return [f"--model.{found[1].lower()}={value}" for found, value in named if found]


def plain(cli: FitCLI) -> dict[str, Any]:
    """The resolved configuration as YAML would give it back; the default model's class goes without saying."""
    text = cli.parser.dump(cli.config, skip_none=False, skip_check=True)
    config = {key: value for key, value in yaml.safe_load(text).items() if key != "config"}
    if config["model"]["class_path"] == DEFAULT_MODEL:
        config["model"] = config["model"]["init_args"]
    return config
