"""Running work: see it, pause it, resume it."""
