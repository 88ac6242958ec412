"""The cycle: observe, decide, act, publish; and the operator's hand on it."""
