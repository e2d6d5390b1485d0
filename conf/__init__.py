"""The Hydra configuration of train.py: YAML groups and the types they must have."""
