"""A figure as a file."""

import io

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The bytes of a PNG, at the size of the pages and documents."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
