"""flexload's agent: one per site, between the utility's VTN and the site's GPUs and jobs."""

__version__ = "0.1.0"
