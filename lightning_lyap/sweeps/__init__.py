"""The runs of a sweep: their spectra beside their losses."""
