"""Tests of the paper's figures, at a scale of seconds."""
