"""What is seen from outside: the page, the read-only API, metrics and health."""
