"""The pure core: what the grid asks, what the site can give, and what to do about it.

No I/O, no asyncio, no clock reads: `now` is an argument, results are values.
"""
