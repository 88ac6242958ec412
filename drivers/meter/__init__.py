"""The site's metered power."""
