"""GPU power limits: read what a GPU draws, set what it may draw."""
