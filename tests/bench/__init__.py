"""Figures, not tests: `make bench` prints one JSON object a figure."""
