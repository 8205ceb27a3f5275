"""Work whose result is shared by all who ask for it, and done by one thread at a time."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """`work` in a thread of its own, for all who ask while it is at it or less than `lifetime_s` after its end.

    Nobody waits longer than `limit_s`; who does is told so, and `cut` is called, which should make `work` end. Until it
    has ended it is not begun again, and who asks is answered at once.
    """

    def __init__(self, work: Callable[[], T], cut: Callable[[], None], lifetime_s: float, limit_s: float):
        self._work, self._cut = work, cut
        self._lifetime_s, self._limit_s = lifetime_s, limit_s
        self._lock = Lock()
        self._flight: Future[T] | None = None
        self._began_s = self._ended_s = 0.0

    def result(self) -> T:
        """The result, or what `work` raised. Raises TimeoutError where the work takes longer than the limit."""
        with self._lock:
            now_s = time.monotonic()
            if self._flight is None or (self._flight.done() and now_s - self._ended_s > self._lifetime_s):
                flight: Future[T] = Future()
                Thread(target=self._fly, args=[flight], name="probe", daemon=True).start()
                self._flight, self._began_s = flight, now_s
            flight, deadline_s = self._flight, self._began_s + self._limit_s
        try:
            return flight.result(timeout=max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            self._cut()
            raise

    def _fly(self, flight: Future[T]) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 those who wait raise it
            self._ended_s = time.monotonic()
            flight.set_exception(error)
        else:
            self._ended_s = time.monotonic()
            flight.set_result(result)
