"""The estimator: from dynamics and inputs to a spectrum, without Lightning."""
