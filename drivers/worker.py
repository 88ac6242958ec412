"""One thread a device for calls that may hang: a sick device then keeps nobody waiting but itself.

A worker answers requests one after the other; asyncio waits for the
answers of all workers together, once, with one deadline.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Request(Generic[T]):
    """One call that a worker is to make, and the future of its answer."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[T] = self._loop.create_future()
        self.abandoned = False

    def abandon(self) -> None:
        """Stop waiting. A call not begun is not made; one under way cannot be stopped."""
        self.abandoned = True
        self.answer.cancel()

    def make(self) -> None:
        """Make the call and hand its answer, or its exception, to the event loop. For the worker."""
        deliver: Callable[[], None]
        try:
            deliver = partial(self.answer.set_result, self._call())
        except Exception as error:  # noqa: BLE001 (raised again where the answer is awaited)
            deliver = partial(self.answer.set_exception, error)
        # A loop that closed while the call hung waits for no answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._unless_done, deliver)

    def _unless_done(self, deliver: Callable[[], None]) -> None:
        if not self.answer.done():
            deliver()


class Worker:
    """A daemonic thread that makes one device's calls, one at a time, in the order submitted."""

    def __init__(self, name: str) -> None:
        self._requests: SimpleQueue[Request[Any] | None] = SimpleQueue()
        self._current: Request[Any] | None = None
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def stuck(self) -> bool:
        """Whether it is still in a call that nobody waits for any more."""
        current = self._current
        return current is not None and current.abandoned

    def wanted(self) -> bool:
        """For a call under way: whether its answer is still waited for."""
        return not self.stuck

    def submit(self, call: Callable[[], T]) -> Request[T] | None:
        """Queue a call; None, and nothing queued, while the worker is stuck."""
        if self.stuck:
            return None
        request = Request(call)
        self._requests.put(request)
        return request

    def stop(self) -> None:
        """End the thread once the calls before this one have returned; waits for none of them."""
        self._requests.put(None)

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            if not request.abandoned:
                self._current = request
                request.make()
                self._current = None


async def answers(requests: Sequence[Request[T] | None], timeout_s: float) -> Sequence[T | None]:
    """The answers, in order; None where nothing was queued or nothing came within `timeout_s`.

    Requests without an answer by then are abandoned. Raises what the first failed call raised.
    """
    waiting = [request for request in requests if request is not None]
    try:
        if waiting:
            await asyncio.wait([request.answer for request in waiting], timeout=timeout_s)
    finally:
        for request in waiting:
            if not request.answer.done():
                request.abandon()
    return [
        None if request is None or request.abandoned else request.answer.result()
        for request in requests
    ]
