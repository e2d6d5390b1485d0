"""Photograph TensorBoard's dashboards: `python docs/screenshot.py --logdir outputs`."""
