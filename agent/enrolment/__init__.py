"""What an operator does once to take part: a key, a certificate, a sheet for the utility, a connection."""
