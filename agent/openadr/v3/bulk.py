"""For lists of a hundred thousand: the collector of cyclic garbage would look through them again and again.

What is read from a VTN holds no cycles, so nothing is lost by letting it wait.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the collector wait. Threads may do so at once: the first to be done lets it go on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
