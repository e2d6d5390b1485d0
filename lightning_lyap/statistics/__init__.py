"""Numbers that sum up spectra, and how sure they are."""
