"""The demo: a real VTN in its own process, a simulated site, and the agent between them."""
