"""What a command prints: results as tables on stdout; progress and errors on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_FIGURE = 15
"""Characters of the longest figure that is kept in one piece."""


def results() -> Console:
    """Where results go."""
    return Console()


def remarks() -> Console:
    """Where progress, remarks and errors go."""
    return Console(stderr=True)


def tell_error(text: str, *, interrupted: bool = False) -> None:
    """Print an error as one paragraph on stderr."""
    word = "[bold yellow]Stopped[/]" if interrupted else "[bold red]Error[/]"
    remarks().print(f"{word}: {escape(text)}", soft_wrap=True, highlight=False)


def counted(number: int, one: str, many: str) -> str:
    """A number of things, in words."""
    return f"{number} {one if number == 1 else many}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table: its first column is words, the others are numbers.

    Where it is too narrow, long values go on below, or words if there are none; figures stay whole.
    """
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    cells = [tuple(row) for row in rows]
    widest = [max((len(row[i]) for row in cells), default=0) for i in range(len(columns))]
    made.add_column(columns[0], no_wrap=any(n > _FIGURE for n in widest[1:]), overflow="fold")
    for column, n in zip(columns[1:], widest[1:], strict=True):
        whole = n if n <= _FIGURE else None
        made.add_column(column, justify="right", overflow="fold", min_width=whole)
    for row in cells:
        made.add_row(*row)
    return made


def facts(title: str, pairs: Iterable[tuple[str, str]]) -> Table:
    """A table of names and what they are."""
    made = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value)
    return made


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr, gone when the block ends; none where stderr is no terminal."""
    console = remarks()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        yield bars


@contextmanager
def stages(subject: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar that is told (stage, done, total), one line a stage."""
    lines: dict[str, TaskID] = {}
    with progress_bars() as bars:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in lines:
                lines[stage] = bars.add_task(f"{subject}: {stage}", total=total)
            bars.update(lines[stage], completed=done, total=total)

        yield tell
