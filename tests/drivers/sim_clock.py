"""The time of simulated sites in tests: the real one, moved forward by hand."""

import time


class SimClock:
    """Unix seconds, and what was added."""

    def __init__(self) -> None:
        self.forward_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.forward_s
