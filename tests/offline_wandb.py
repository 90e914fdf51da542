"""Reads a W&B offline file: a 7-byte header, then LevelDB-style blocks of protobuf records."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Record]:
    """Every record of the file; a torn tail is its end."""
    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        room = BLOCK - place % BLOCK
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        chunk, place = data[place + 7 : place + 7 + length], place + 7 + length
        if len(chunk) < length:  # W&B is still writing it
            return
        if kind in (WHOLE, FIRST):
            parts = b""
        parts += chunk
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record


def finished(run: Path) -> list[Path]:
    """The files of a run folder, in the order of time, once W&B's own process has written their last records."""
    paths = sorted((run / "wandb").glob("offline-run-*/*.wandb"))
    for path in paths:
        until = time.monotonic() + 20
        while not any(record.HasField("exit") for record in records(path)):
            if time.monotonic() > until:
                raise TimeoutError(f"W&B did not finish {path}")
            time.sleep(0.1)
    return paths


def history(path: Path) -> list[dict[str, Any]]:
    """The rows that were logged."""
    rows = []
    for record in records(path):
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows
