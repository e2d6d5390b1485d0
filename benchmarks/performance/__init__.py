"""The sections of `benchmarks/run.py`: each measures ratios side by side, beside a naive twin."""
