"""Where the `opu` command starts: Ctrl-C ends it quietly even while the application is imported."""

from __future__ import annotations

import sys


def start() -> int:
    """Import the application and run the command line.

    Returns:
        The exit code.
    """
    try:
        from tools.main import main  # takes a while
    except KeyboardInterrupt:
        print("Interrupted (SIGINT). Nothing was begun.", file=sys.stderr)
        return 130
    return main()
