"""Settings of the paper's figures; see config.yaml."""
