"""Each logger, driven for real: what was sent is read back from what it wrote."""
