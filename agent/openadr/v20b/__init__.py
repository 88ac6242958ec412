"""The OpenADR 2.0b VEN: HTTP pull, simple HTTP transport. Its entry is `agent.openadr.v20b.ven`."""
