"""How things show themselves in a notebook: a title, what there is to know, and pictures.

Everything is in the card itself, and its colours are the notebook's own, light or dark.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 320


def card(title: str, facts: Mapping[str, str], pictures: Mapping[str, bytes] | None = None) -> str:
    """A card as HTML.

    Args:
        title: What it is.
        facts: What there is to know, by name; empty values are left out.
        pictures: PNG files, by caption.
    """
    rows = "".join(
        f'<tr><td style="text-align:left;opacity:.65;padding:1px 14px 1px 0">{escape(name)}</td>'
        f'<td style="text-align:left;padding:1px 0">{escape(value)}</td></tr>'
        for name, value in facts.items()
        if value
    )
    images = "".join(
        f'<figure style="margin:0"><img alt="{escape(caption)}" style="max-width:{_MOST_PIXELS}px" '
        f'src="data:image/png;base64,{base64.b64encode(image).decode("ascii")}">'
        f'<figcaption style="opacity:.65">{escape(caption)}</figcaption></figure>'
        for caption, image in (pictures or {}).items()
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:22px;align-items:flex-start;'
        'border-left:3px solid #33659c;padding:2px 0 2px 14px;margin:6px 0">'
        f'<div><div style="font-weight:600;margin-bottom:4px">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;margin:0">{rows}</table></div>{images}</div>'
    )


def picture(image: NDArray[np.generic]) -> bytes:
    """A PNG of an image `[row, column]` in grey, from its smallest to its largest value.

    Large ones are shown by the means of blocks of pixels, at most 320 rows or columns.
    """
    from PIL import Image

    values = np.asarray(image, np.float32)
    factor = -(-max(values.shape) // _MOST_PIXELS)
    rows, columns = (n // factor * factor for n in values.shape)
    blocks = values[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor)
    means = blocks.mean((1, 3))
    low, high = float(means.min()), float(means.max())
    grey = np.round(255 * (means - low) / (high - low or 1.0)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()
