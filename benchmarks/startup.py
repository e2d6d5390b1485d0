"""What importing the package adds: `python benchmarks/startup.py [--repeats 9]`.

Every statement runs in a new process, in turn with the bare import it is compared with; what was
compiled before is not compiled again. Times are those of the processor, from the start of Python:
other work on the machine does not count. The table gives medians, the lowest and highest
difference, and the median ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec

BARE = {
    "import torch, pytorch_lightning": "pytorch_lightning",
    "import torch, lightning.pytorch": "lightning",
}
ADDED = (
    "import lightning_lyap",
    "from lightning_lyap import LyapunovSpectrumCallback",
)
CLOCK = "import time; print(time.process_time())"
HEADER = (
    "| before | added | seconds before | seconds added | lowest, highest | ratio |\n"
    "| --- | --- | ---: | ---: | ---: | ---: |"
)


def seconds(statement: str) -> float:
    """Run a statement in a new process.

    Args:
        statement: Python.

    Returns:
        Seconds of the processor, those of starting Python included.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{CLOCK}"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.splitlines()[-1])


def row(bare: str, added: str, times: list[tuple[float, float]]) -> str:
    """Write a line of the table.

    Args:
        bare: What the time is compared with.
        added: What comes after it.
        times: Seconds without and with it, for each round.

    Returns:
        Markdown.

    Example:
        >>> row("import a", "import b", [(2.0, 2.5), (2.0, 2.25), (4.0, 5.0)])
        '| `import a` | `import b` | 2.00 | 0.500 | 0.250, 1.000 | 1.25 |'
    """
    more = sorted(after - before for before, after in times)
    ratio = statistics.median(after / before for before, after in times)
    before = statistics.median(before for before, _ in times)
    cells = f"{before:.2f} | {statistics.median(more):.3f} | {more[0]:.3f}, {more[-1]:.3f}"
    return f"| `{bare}` | `{added}` | {cells} | {ratio:.2f} |"


def rows(bare: str, repeats: int) -> list[str]:
    """Measure everything that comes after a bare import.

    Args:
        bare: The import.
        repeats: Rounds; one more goes before them.

    Returns:
        Lines of the table.
    """
    statements = [bare, *(f"{bare}\n{added}" for added in ADDED)]
    rounds = [[seconds(statement) for statement in statements] for _ in range(repeats + 1)]
    pairs = [[(one[0], one[1 + i]) for one in rounds[1:]] for i in range(len(ADDED))]
    return [row(bare, added, times) for added, times in zip(ADDED, pairs, strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default 9)")
    repeats: int = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"Expected --repeats to be at least 1, but got {repeats}.")
    print(HEADER)
    for bare, package in BARE.items():
        if find_spec(package) is None:
            print(f"| `{bare}` | not installed | | | | |")
            continue
        for line in rows(bare, repeats):
            print(line, flush=True)


if __name__ == "__main__":
    main()
