"""The glyph atlas: every subject of the world as a 64-pixel RGBA square.

The atlas is drawn from Noto Color Emoji (SIL Open Font License 1.1) and shipped, so that nobody needs the font;
`python -m mira_pl.world.glyphs` draws it again from the installed font.
"""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .names import GLYPHS, SUBJECTS

SIZE = 64
BITMAP_SIZE = 109  # the one size at which the bitmap font can be drawn
COLUMNS = 8
ATLAS = "assets/world/glyphs.png"


def load_atlas() -> Float[Tensor, "subjects 4 64 64"]:
    """The packaged glyphs, RGBA in [0, 1], in the order of `names.SUBJECTS`."""
    with (files("mira_pl") / ATLAS).open("rb") as file:
        sheet = torch.from_numpy(np.array(Image.open(file).convert("RGBA"))).float() / 255
    rows = sheet.shape[0] // SIZE
    tiles = sheet.view(rows, SIZE, COLUMNS, SIZE, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, SIZE, SIZE)
    return tiles[: len(SUBJECTS)].contiguous()


def find_font() -> Path:
    """Where fontconfig has Noto Color Emoji.

    Raises:
        FileNotFoundError: the font, or fontconfig itself, is not installed.
    """
    advice = (
        "install it (Debian: apt-get install fontconfig fonts-noto-color-emoji); it is needed only to redraw the glyphs"
    )
    if shutil.which("fc-match") is None:
        raise FileNotFoundError(f"fontconfig's fc-match was not found: {advice}")
    answer = subprocess.run(
        ["fc-match", "--format=%{family}|%{file}", "Noto Color Emoji"], capture_output=True, text=True, check=True
    ).stdout
    family, _, path = answer.partition("|")
    if family != "Noto Color Emoji":
        raise FileNotFoundError(f"the font Noto Color Emoji was not found (fontconfig offers {family!r}): {advice}")
    return Path(path)


def draw_atlas(font: Path) -> Image.Image:
    """Every glyph, cropped, centred in a square and scaled to 64 pixels."""
    face = ImageFont.truetype(str(font), BITMAP_SIZE)
    rows = -(-len(SUBJECTS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIZE, rows * SIZE), (0, 0, 0, 0))
    for index, name in enumerate(SUBJECTS):
        canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((8, 8), GLYPHS[name], font=face, embedded_color=True)
        box = canvas.getbbox()
        if box is None:
            raise ValueError(f"{font} has no glyph for {name!r} ({GLYPHS[name]}): a newer Noto Color Emoji is needed")
        glyph = canvas.crop(box)
        side = max(glyph.size)
        square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        square.paste(glyph, ((side - glyph.width) // 2, (side - glyph.height) // 2))
        tile = square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        sheet.paste(tile, ((index % COLUMNS) * SIZE, (index // COLUMNS) * SIZE))
    return sheet


if __name__ == "__main__":
    target = Path(str(files("mira_pl") / ATLAS))
    target.parent.mkdir(parents=True, exist_ok=True)
    draw_atlas(find_font()).save(target, optimize=True)
    print(target)
