"""The parts of `benchmarks/interval_coverage.py`: networks, replicates, counts, and the page."""
