"""The one simulated site that every simulated driver is a view on."""
