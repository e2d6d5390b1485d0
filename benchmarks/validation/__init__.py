"""What `benchmarks/validate.py` measures: one file per family of systems, rows for one table.

Every section is a function ``section(effort) -> rows``. It calls the public `lyapunov_spectrum` and
reads its ``exponents`` and ``standard_errors`` (and, for the Kaplan-Yorke map, `measures`).
"""
