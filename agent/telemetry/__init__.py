"""What the agent tells of itself: views, metrics, logs, the service manager. Renders, never decides."""
