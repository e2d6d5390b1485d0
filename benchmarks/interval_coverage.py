"""How often 95 % intervals cover the long-run exponents, with the default arguments.

`python -m benchmarks.interval_coverage --out FOLDER [--data-dir PATH] [--write]`. A chaotic tanh
network, an LSTM and a GRU trained on War and Peace are measured again and again, on fresh draws or
on other windows of held-out text, and compared with one long run. Every case leaves a file in the
folder; what is there already is not measured again. ``--write`` makes docs/COVERAGE.md. Takes some
fifteen minutes on one core.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with -m that is not there

from covering.page import page
from covering.replicates import measure

PAGE = Path(__file__).resolve().parents[1] / "docs" / "COVERAGE.md"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the page, and write it if asked to.

    Args:
        arguments: Of the command line; None takes the process's own.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--data-dir", help="folder with the text; LYAP_DATA_DIR by default")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    text = page(measure(options.out, options.replicates, options.data_dir))
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
