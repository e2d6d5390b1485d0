"""Tests of the DataModules; no network is needed."""
