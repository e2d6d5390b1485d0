"""Orthonormalization: bases of tangent vectors, their stretches and the bounds of their errors."""
