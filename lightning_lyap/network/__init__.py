"""Finds the recurrent modules of a network and what drives them, with torch alone."""
