"""The layout of a run folder, and the only code that knows it.

    config.yaml          the resolved configuration
    records.jsonl        one line a job
    trace.csv            one line a job and iteration
    images/<key>.png     the result; <key>.base.png the start; <key>.film.png the way between
    noise/<key>.safetensors
    contact.png          start | result of every job
    page.html            all of it on one page, by `python -m mira_pl show`
    state/               batches in progress; empty when the run is complete
    .lock                held by the fit that writes

Every file is written beside its place and moved there, so a kill leaves the old file or the new one.
"""

import contextlib
import csv
import fcntl
import io
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save
from torch import Tensor

from .identity import config_hash

TRACE_COLUMNS: tuple[str, ...] = (
    "key", "iteration", "reward", "S0", "S", "drift", "clip", "noise_norm", "grad_norm", "seconds", "score_difference",
    "elbo", "loser_reward", "loser_drift", "beta", "candidate", "ess",
)  # fmt: skip
CONTACT_SIDE = 128


def write_atomic(path: Path, content: bytes) -> None:
    """All or nothing, also under kill -9 or on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = f"cannot write {path}: {error.strerror}; what was written before is intact"
        raise OSError(error.errno, reason) from error


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run."""

    path: Path

    def check(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Whether the folder may be opened for this configuration: a new one, or one to continue or to overwrite.

        Raises:
            FileExistsError: the folder holds a run of another configuration, or files that are no run.
            NotADirectoryError: a file stands in its place.
            ValueError: the run to continue is damaged.
        """
        file = next((path for path in (self.path, *self.path.parents) if path.is_file()), None)
        if file is not None:
            raise NotADirectoryError(f"{file} is a file: give a folder with --out")
        if self.config_path.exists() and not overwrite:
            other = config_hash(self.config())
            if other != config_hash(config):
                raise FileExistsError(
                    f"{self.path} holds a run of another configuration ({other}, this one is {config_hash(config)}): "
                    "give another folder with --out, or --overwrite"
                )
            self.records()
            self.trace()
        others = self.path.exists() and {path.name for path in self.path.iterdir()} - {".config.yaml.tmp", ".lock"}
        if others and not self.config_path.exists():
            raise FileExistsError(f"{self.path} is not empty and is no run: give another folder with --out")

    def prepare(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Open the folder for this configuration, see `check`."""
        self.check(config, overwrite)
        if overwrite and self.config_path.exists():
            self.clear()
        write_atomic(self.config_path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode())

    @contextlib.contextmanager
    def opened(self, config: Mapping[str, Any], overwrite: bool = False) -> Iterator[None]:
        """`prepare`, and keep other fits out until this one ends; the system lets go of what a killed one held.

        Raises:
            BlockingIOError: another fit writes to the folder.
        """
        self.check(config, overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                reason = f"another fit writes to {self.path}: wait for its end, or give another folder with --out"
                raise BlockingIOError(reason) from error
            self.prepare(config, overwrite)
            yield

    def busy(self) -> bool:
        """Whether a fit writes to the folder now."""
        try:
            with (self.path / ".lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:  # no fit has opened it yet
            return False
        return False

    @property
    def config_path(self) -> Path:
        """The resolved configuration; a folder without one is no run."""
        return self.path / "config.yaml"

    def clear(self) -> None:
        """Delete what a run wrote, and nothing else; the configuration stays, which marks the folder as a run."""
        for folder, pattern in (("images", "*.png"), ("noise", "*.safetensors"), ("state", "batch-*.*")):
            for path in (*(self.path / folder).glob(pattern), *(self.path / folder).glob(f".{pattern}.tmp")):
                path.unlink()
            with contextlib.suppress(OSError):  # absent, or holding files of others
                (self.path / folder).rmdir()
        for name in ("records.jsonl", "trace.csv", "contact.png", "page.html"):
            (self.path / name).unlink(missing_ok=True)

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            ValueError: the file is no YAML mapping in UTF-8.
        """
        file = self.config_path
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{file} is no YAML ({reason}): restore it, or take another folder with --out") from error
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds no configuration: restore it, or take another folder with --out")
        return content

    def records(self) -> list[dict[str, Any]]:
        """One mapping a finished job.

        Raises:
            ValueError: a line is no record.
        """
        path = self.path / "records.jsonl"
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")  # splitlines() would also cut at U+2028
        return [_record(line, f"line {number} of {path}") for number, line in enumerate(lines, 1) if line]

    def trace(self) -> list[dict[str, str]]:
        """One mapping a job and iteration, every value as text.

        Raises:
            ValueError: the file is no table of the columns that are known.
        """
        path = self.path / "trace.csv"
        if not path.exists():
            return []
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), strict=True))
            if not all(_is_row(row) for row in rows):
                raise ValueError("a row of other columns, or cut off")
        except (csv.Error, ValueError) as error:
            advice = "restore it, or delete it: the curves are lost, the results stay"
            raise ValueError(f"{path} is damaged ({error}): {advice}") from error
        return rows

    def state_path(self, batch: int) -> Path:
        """Where a batch in progress is kept."""
        return self.path / "state" / f"batch-{batch:05d}.pt"

    @property
    def page_path(self) -> Path:
        """The page of `python -m mira_pl show`."""
        return self.path / "page.html"

    def image_path(self, key: str, kind: str = "") -> Path:
        """`kind`: nothing for the result, `base` or `film`."""
        return self.path / "images" / (f"{key}.{kind}.png" if kind else f"{key}.png")

    def save_images(
        self, key: str, text: Mapping[str, str], start: Tensor, result: Tensor, film: Sequence[Tensor]
    ) -> None:
        """PNGs of [3, h, w] tensors in [-1, 1], with prompt, seed and configuration hash as text chunks."""
        write_atomic(self.image_path(key, "base"), _png(to_picture(start), text))
        write_atomic(self.image_path(key), _png(to_picture(result), text))
        if film:
            write_atomic(self.image_path(key, "film"), _png(to_picture(torch.cat([start, *film, result], dim=2)), text))

    def save_noise(self, key: str, noise: Tensor, start: Tensor) -> None:
        """The learned noise and the one it started from, fp32."""
        content = save({"noise": noise.contiguous(), "start": start.contiguous()})
        write_atomic(self.path / "noise" / f"{key}.safetensors", content)

    def add(
        self, records: Iterable[Mapping[str, Any]], trace: Iterable[Mapping[str, Any]], order: Sequence[str]
    ) -> None:
        """Add finished jobs, in the order of `order`; a job that stood there is replaced. The trace goes first."""
        records, trace = list(records), list(trace)
        new = {record["key"] for record in records}
        place = defaultdict(lambda: len(order), {key: index for index, key in enumerate(order)})  # strangers go last
        rows = [row for row in self.trace() if row["key"] not in new] + trace
        rows.sort(key=lambda row: (place[row["key"]], int(row["iteration"])))
        table = io.StringIO()
        writer = csv.DictWriter(table, TRACE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / "trace.csv", table.getvalue().encode())
        kept = [record for record in self.records() if record["key"] not in new] + records
        kept.sort(key=lambda record: place[record["key"]])
        lines = "".join(json.dumps(finite(record), ensure_ascii=False) + "\n" for record in kept)
        write_atomic(self.path / "records.jsonl", lines.encode("utf-8", "surrogatepass"))

    def save_contact(self) -> Path:
        """Start | result of every record on one sheet, with prompts; returns its path. A lost picture leaves a gap."""
        records = self.records()
        columns = max(1, min(6, math.ceil(math.sqrt(len(records)))))
        rows = math.ceil(len(records) / columns)
        width, height = 2 * CONTACT_SIDE + 8, CONTACT_SIDE + 18
        sheet = Image.new("RGB", (max(1, columns * width), max(1, rows * height)), "white")
        for index, record in enumerate(records):
            left, top = (index % columns) * width, (index // columns) * height
            for offset, kind in ((0, "base"), (CONTACT_SIDE + 2, "")):
                path = self.image_path(record["key"], kind)
                with contextlib.suppress(OSError, SyntaxError), Image.open(path) as picture:
                    sheet.paste(picture.resize((CONTACT_SIDE, CONTACT_SIDE)), (left + offset, top))
            label = record["prompt"].removeprefix("generate an image of ").encode("ascii", "replace").decode()[:40]
            text = f"{label}  {_short(record['reward_start'])} > {_short(record['reward'])}"
            ImageDraw.Draw(sheet).text((left + 2, top + CONTACT_SIDE + 2), text, fill="black")
        write_atomic(self.path / "contact.png", _png(sheet, {}))
        return self.path / "contact.png"


def to_picture(image: Tensor) -> Image.Image:
    """[3, h, w] in [-1, 1] to an 8-bit picture."""
    pixels = ((image.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """NaN and infinities as null: JSON has neither."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8", "surrogatepass"))  # a prompt from the shell may be no UTF-8
    except ValueError:
        record = None
    texts, numbers = ("key", "prompt"), ("reward_start", "reward")
    if (
        not isinstance(record, dict)
        or not all(isinstance(record.get(name), str) for name in texts)
        or not all(isinstance(record.get(name, ""), int | float | None) for name in numbers)
    ):
        raise ValueError(f"{place} is no record: restore the file, or delete that line to do its job again")
    return record


def _is_row(row: Mapping[Any, Any]) -> bool:
    """Whether a row can be written again: known columns, all of them there, and a number of the iteration."""
    known = set(row) <= set(TRACE_COLUMNS) and None not in row.values()
    return known and bool(row.get("key")) and row.get("iteration", "").isdecimal()


def _short(value: float | None) -> str:
    return "nan" if value is None else f"{value:.2f}"


def _png(picture: Image.Image, text: Mapping[str, str]) -> bytes:
    chunks = PngInfo()
    for name, value in text.items():
        chunks.add_itxt(name, value.encode("utf-8", "replace").decode())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()
