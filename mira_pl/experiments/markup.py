"""Text and numbers as HTML: whatever a prompt holds is shown and never obeyed."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from .summary import Spread, number, short

CUT = 90
PICTURES_OF_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
NOT_TEXT = dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)


def text(value: Any) -> str:
    """Any value as HTML, control characters made visible, fit for tags and for attributes."""
    return escape(str(value).translate(PICTURES_OF_CONTROLS | NOT_TEXT))


def long_text(value: str, cut: int = CUT) -> tuple[str, str]:
    """The text cut for display, and a <details> with all of it where something was cut off."""
    if len(value) <= cut:
        return f"<bdi>{text(value)}</bdi>", ""
    whole = f'<p class="find"><bdi>{text(value)}</bdi></p>'
    return (
        f"<bdi>{text(value[:cut].rstrip())}…</bdi>",
        f'<details class="whole"><summary>all {len(value):,} characters</summary>{whole}</details>',
    )


def data(value: Any, sign: str = "") -> str:
    """A number for the eye, with the exact one as its value."""
    exact = number(value)
    return f'<data value="{exact!r}" title="{exact!r}">{short(exact, sign)}</data>' if math.isfinite(exact) else "–"


def change(start: Any, end: Any) -> str:
    """`start → end`."""
    return f'{data(start)}<span class="to">→</span>{data(end)}'


def stat(spread: Spread) -> str:
    """A mean, and its range below where it is one."""
    return f'<span class="stat">{data(spread.mean)}{interval(spread)}</span>'


def interval(spread: Spread) -> str:
    """`least … greatest`, or nothing where all are equal."""
    if spread.low == spread.high:
        return ""
    return f"<small>{data(spread.low)} … {data(spread.high)}</small>"


def table(kind: str, heads: Sequence[str], rows: Sequence[Sequence[str]], labels: bool = True) -> str:
    """A table whose first column names the rows; everything given is HTML already.

    `labels` repeats the heads, plain words then, in the cells: a narrow screen shows them there.
    """
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    marks = [f' data-label="{head}"' if labels else "" for head in heads[1:]]
    body = ""
    for name, *cells in rows:
        filled = "".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, cells, strict=True))
        body += f'<tr><th scope="row">{name}</th>{filled}</tr>'
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def definitions(rows: Sequence[tuple[str, str]], kind: str) -> str:
    """A list of names and values; the values are HTML already."""
    body = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return f'<dl class="{kind}">{body}</dl>'
