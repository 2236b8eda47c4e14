"""The report: figures and tables bound to one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { --ink: #1c2530; --soft: #5b6672; --line: #dfe4ea; --accent: #33659c; --pale: #f5f7fa; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 17px/1.55 "Inter", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
main, header > div { max-width: 1040px; margin: 0 auto; padding: 0 28px; }
header { background: var(--pale); border-bottom: 1px solid var(--line); padding: 44px 0 34px; }
h1 { font-size: 36px; line-height: 1.15; margin: 0 0 10px; letter-spacing: -.015em; }
header p { margin: 0; color: var(--soft); max-width: 46em; }
h2 { font-size: 25px; margin: 54px 0 6px; letter-spacing: -.01em; }
h2 + p { margin-top: 0; max-width: 46em; }
dl.facts { display: flex; flex-wrap: wrap; gap: 14px 42px; margin: 26px 0 0; }
dl.facts dt { font-size: 13px; color: var(--soft); }
dl.facts dd { margin: 0; font-size: 20px; font-weight: 600; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
figure { margin: 26px 0 34px; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: 15.5px; margin: 10px 0 0; max-width: 50em; }
figcaption b { color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 18px 0 8px; font-size: 16px;
  font-variant-numeric: tabular-nums; break-inside: avoid; }
th { text-align: right; font-weight: 600; font-size: 14px; color: var(--soft);
  border-bottom: 2px solid var(--line); padding: 6px 18px 6px 0; vertical-align: bottom; }
td { text-align: right; vertical-align: top; border-bottom: 1px solid var(--line);
  padding: 7px 18px 7px 0; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
th.words, td.words { text-align: left; }
tr.marked td { background: #eef4fb; font-weight: 600; }
table.settings td { text-align: left; vertical-align: top; }
table.settings td:first-child { color: var(--soft); white-space: nowrap; }
p.note { color: var(--soft); font-size: 15px; max-width: 50em; }
footer { color: var(--soft); font-size: 14px; border-top: 1px solid var(--line);
  margin: 60px 0 40px; padding-top: 14px; }
@media print {
  body { font-size: 11pt; }
  header { padding: 0 0 12px; background: none; }
  h2 { margin-top: 24px; break-after: avoid; }
  figure { margin: 12px 0 18px; }
}
"""

_LONGEST_NUMBER = 24  # characters, its deviation and its unit among them


class Report:
    """A page that grows from top to bottom.

    Args:
        title: What it is about.
        summary: One or two sentences below the title.
        facts: What stands out, by name: a few short values.
    """

    def __init__(self, title: str, summary: str, facts: Mapping[str, str]) -> None:
        self._title = title
        named = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in facts.items()
        )
        self._head = (
            f"<header><div><h1>{escape(title)}</h1><p>{escape(summary)}</p>"
            f'<dl class="facts">{named}</dl></div></header>'
        )
        self._body: list[str] = []

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        page = escape(self.html(""))
        return f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:0"></iframe>'

    def section(self, heading: str, text: str = "") -> None:
        """Begin a section, with a sentence or two about it."""
        self._body.append(f"<h2>{escape(heading)}</h2>")
        if text:
            self._body.append(f"<p>{escape(text)}</p>")

    def figure(self, figure: Figure, name: str, caption: str, width_px: int = 920) -> None:
        """A picture with its caption; it is embedded at twice the resolution it is shown at.

        Args:
            figure: The picture.
            name: What it shows, in a few words: the beginning of the caption.
            caption: What there is to be seen in it.
            width_px: How wide it is shown, where there is room.
        """
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=2 * width_px / figure.get_figwidth())
        data = base64.b64encode(image.getvalue()).decode("ascii")
        self._body.append(
            f'<figure><img style="max-width:{width_px}px" alt="{escape(name)}" '
            f'src="data:image/png;base64,{data}">'
            f"<figcaption><b>{escape(name)}.</b> {escape(caption)}</figcaption></figure>"
        )

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        note: str = "",
        marked: int | None = None,
    ) -> None:
        """A table of words (its first column, and those with sentences in them) and numbers.

        Args:
            columns: Heads of the columns.
            rows: The cells.
            note: What there is to say about it.
            marked: Number of a row that stands out.
        """
        rows = list(rows)
        kinds = [
            " class=words" if any(len(row[i]) > _LONGEST_NUMBER for row in rows) else ""
            for i in range(len(columns))
        ]
        head = "".join(
            f"<th{kind}>{escape(column)}</th>" for kind, column in zip(kinds, columns, strict=True)
        )
        lines = [
            f"<tr{' class=marked' if i == marked else ''}>"
            + "".join(
                f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)
            )
            + "</tr>"
            for i, row in enumerate(rows)
        ]
        self._body.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )
        if note:
            self.note(note)

    def note(self, text: str) -> None:
        """A remark, smaller than the text."""
        self._body.append(f'<p class="note">{escape(text)}</p>')

    def settings(self, values: Mapping[str, str]) -> None:
        """Names and what they are, for the record."""
        lines = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>"
            for name, value in values.items()
        )
        self._body.append(f'<table class="settings"><tbody>{lines}</tbody></table>')

    def html(self, footer: str) -> str:
        """The whole page.

        Args:
            footer: With what and when it was made.
        """
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head><body>"
            f"{self._head}<main>{''.join(self._body)}"
            f"<footer>{escape(footer)}</footer></main></body></html>\n"
        )
