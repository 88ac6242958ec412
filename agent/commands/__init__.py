"""One file a sub-command; each has `run(options)`, which returns the exit status."""
