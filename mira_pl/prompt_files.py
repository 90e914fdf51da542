"""Prompts from files: one a line, or a column of a table."""

import csv
import io
import json
from pathlib import Path
from typing import Any


def from_file(file: Path, column: str = "prompt") -> list[str]:
    """The lines of a text file that are not empty, or a column of a .csv or .jsonl file.

    Raises:
        ValueError: it is not UTF-8, no such table, or a row has no text in the column; says which row.
    """
    text = read_text(file)
    if file.suffix == ".txt":
        return [line.strip() for line in text.split("\n") if line.strip()]  # str.splitlines splits inside of prompts
    rows = _comma_separated(file, text) if file.suffix == ".csv" else _json_lines(file, text)
    return [_cell(file, number, row, column) for number, row in enumerate(rows, start=1)]


def from_json(file: Path) -> list[str]:
    """A list of prompts in JSON, as HPDv2 has it.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        prompts = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error}): delete the file and fetch it again") from error
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"{file} is no list of prompts: delete the file and fetch it again")
    return prompts


def read_text(file: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from error


def _comma_separated(file: Path, text: str) -> list[Any]:
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"{file} is no table of comma-separated values ({error}): see to its quotes") from error


def _json_lines(file: Path, text: str) -> list[Any]:
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no file of JSON lines ({error}): give one object a line") from error


def _cell(file: Path, number: int, row: Any, column: str) -> str:
    found = row.get(column) if isinstance(row, dict) else None
    if isinstance(found, str) and found.strip():
        return found
    columns = ", ".join(str(name) for name in row) if isinstance(row, dict) else "none"
    raise ValueError(
        f"{file}, row {number}: no text in column {column!r} (columns: {columns[:120]}): fill it, or name another "
        "by --data.column"
    )
