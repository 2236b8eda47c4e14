"""The `opu` command: options common to all subcommands, and what its endings mean.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from tools.acquire import acquire
from tools.calibrate import calibrate
from tools.compare import compare
from tools.cost import cost
from tools.demo import demo
from tools.devices import devices
from tools.doctor import doctor
from tools.emulate import emulate
from tools.export import export
from tools.init import init
from tools.inspect import inspect
from tools.interruption import InterruptError, interruptible
from tools.recipes import recipes
from tools.sweep import sweep
from tools.terminal import tell_error
from tools.train import train
from tools.view import view

log = logging.getLogger("opu")

_EXAMPLES = """
**Examples**

`opu demo` — everything once, on a simulated bench, in two minutes

`opu init --out bench.toml` — a bench file to edit

`opu devices` — what is connected, and what to install

`opu emulate` — real drivers on emulated devices, to rehearse on

`opu doctor --bench bench.toml` — look the bench over

`opu view --bench bench.toml` — look at it live

`opu calibrate --bench bench.toml --inputs 10 --out bench-10.h5`

`opu train mnist --feedback optical --bench bench.toml --calibration bench-10.h5`

`opu train digits --feedback all --seeds 0,1,2` — five ways to train, one table

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 130 interrupted.
"""

app = typer.Typer(
    name="opu",
    help="Drive an optical processing unit: calibrate the bench, and train networks through it.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel="Start here")(demo)
app.command(rich_help_panel="Start here")(init)
app.command(rich_help_panel="Start here")(devices)
app.command(rich_help_panel="Start here")(emulate)
app.command(rich_help_panel="Bench")(doctor)
app.command(rich_help_panel="Bench")(calibrate)
app.command(rich_help_panel="Bench")(view)
app.command(rich_help_panel="Bench")(acquire)
app.command(rich_help_panel="Bench")(inspect)
app.command(rich_help_panel="Bench")(export)
app.command(rich_help_panel="Bench")(compare)
app.command(rich_help_panel="Training")(train)
app.command(rich_help_panel="Training")(recipes)
app.command(rich_help_panel="Training")(sweep)
app.command(rich_help_panel="Training")(cost)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"opu {version('opu')}")
        raise typer.Exit


@app.callback()
def _common(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Tell every command to the laser.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Tell all, and show where in the code an error arose.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Tell the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    if verbose or debug:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        log.handlers = [handler]
    log.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `opu`; None for those of the process.

    Returns:
        The exit code.
    """
    try:
        with interruptible():
            app(arguments, prog_name="opu")
    except SystemExit as end:  # how typer ends, its own usage errors told
        return end.code if isinstance(end.code, int) else 0
    except (Exception, InterruptError) as error:
        return _told(error)
    return 0


def _told(error: BaseException) -> int:
    """Say in a paragraph on stderr what went wrong; returns the exit code."""
    from opu_driver.errors import InputError, OpuError
    from training.errors import TrainingError, TrainingInputError

    log.debug("The error arose here:", exc_info=error)
    match error:
        case InterruptError():
            code, text = 130, f"Interrupted ({error}). The laser is dark, and nothing is half done."
        case InputError() | TrainingInputError():
            code, text = 2, str(error)
        case OpuError() | TrainingError():
            code, text = 1, str(error)
        case OSError():
            code, text = 1, f"{error}. Check that the folder exists, is writable and has room."
        case _:
            code = 1
            text = (
                f"{type(error).__name__}: {error}. This is a fault of the software, not of what "
                "you asked for; `opu --debug ...` shows where it is."
            )
    tell_error(" ".join([text, *getattr(error, "__notes__", [])]), interrupted=code == 130)
    return code


if __name__ == "__main__":  # torchrun -m tools.main: on Windows it cannot run the opu command
    raise SystemExit(main())
