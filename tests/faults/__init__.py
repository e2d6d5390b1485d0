"""What fails in a measurement never ends the training, unless it is asked to."""
