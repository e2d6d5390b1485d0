"""Chunks of time carried side by side; entered only where ``time_chunks > 1``."""
