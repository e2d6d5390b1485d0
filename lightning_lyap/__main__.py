"""``lightning-lyap``, ``python -m lightning_lyap``: work with runs and networks after training."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from lightning_lyap._version import __version__

PROGRAM = "lightning-lyap"
COMMANDS = {
    "compare": "the spectra of many runs with their losses: correlations and figures",
    "spectrum": "the spectrum of a trained network from its checkpoint",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; only what it needs is imported.

    Args:
        arguments: Of the command line. Default: those of the process.

    Returns:
        The exit status: 1 after an error, which is printed in one line or a few.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Help and errors name the way that was used: the installed script, or the module.
    program = PROGRAM if Path(sys.argv[0]).stem == PROGRAM else "python -m lightning_lyap"
    lines = [f"  {name:9} {meaning}" for name, meaning in COMMANDS.items()]
    parser = ArgumentParser(
        prog=program,
        description="\n".join(["commands:", *lines]),
        epilog=f"Each has its own help: {program} compare --help",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    name = parser.parse_args(words[:1]).command
    try:
        command = import_module(f"lightning_lyap.cli.{name}")
    except ModuleNotFoundError as error:
        sys.stderr.write(f'error: {error}. Run `pip install "lightning-lyap[tasks]"`.\n')
        return 1
    subparser = ArgumentParser(prog=f"{program} {name}")
    command.configure(subparser)
    try:
        given = subparser.parse_args(words[1:])
        _check_output(given.output)
        command.run(given)
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _check_output(folder: Path | None) -> None:
    """Refuse an output folder that can't be made, before the work: it or one above it is a file."""
    if folder is None:
        return
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(
            f"Expected `--output` to name a folder, but {there} is a file. Name another."
        )


if __name__ == "__main__":
    sys.exit(main())
