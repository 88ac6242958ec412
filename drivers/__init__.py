"""What touches the world: GPUs, jobs, meters. Knows nothing of OpenADR, plans or events."""
