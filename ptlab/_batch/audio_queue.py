"""A queue between the threads that read sound and the model, limited in audio seconds."""

from __future__ import annotations

import threading
from typing import Any

from ptlab._batch.stop_signals import WAKE_S

__all__ = ["AudioQueue", "Stopped"]

MOST_NEWS = 100  # items without audio that may wait, so that many broken files are told in time


class Stopped(Exception):  # noqa: N818
    """The run is over: tells a reader to leave."""


class AudioQueue:
    """A queue that holds a limited number of audio seconds, those in the model among them.

    Examples
    --------
    >>> queue = AudioQueue(budget_s=10.0)
    >>> queue.put("a", 4.0)
    >>> queue.put("b", 6.0)
    >>> queue.take(least_s=8.0)
    ['a', 'b']
    >>> queue.release(4.0)
    >>> queue.held_s
    6.0
    """

    def __init__(self, budget_s: float):
        self.budget_s, self.held_s, self.waiting_s = budget_s, 0.0, 0.0
        self._items: list[Any] = []
        self._news = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: Any, seconds: float = 0.0) -> None:
        """Add an item, when there is room; `Stopped` if nobody will take it any more."""
        with self._changed:
            while self.held_s and seconds and self.held_s + seconds > self.budget_s:
                if self._closed:
                    raise Stopped
                self._changed.wait(WAKE_S)
            if self._closed:
                raise Stopped
            self._items.append(item)
            self.held_s += seconds
            self.waiting_s += seconds
            self._news += not seconds
            self._changed.notify_all()

    def take(self, least_s: float) -> list[Any]:
        """All items, as soon as they are ``least_s`` long, or no more will come. [] at the end."""
        with self._changed:
            while self.waiting_s < least_s and self._news < MOST_NEWS and not self._closed:
                self._changed.wait(WAKE_S)
            items, self._items, self.waiting_s, self._news = self._items, [], 0.0, 0
            return items

    def release(self, seconds: float) -> None:
        """Say that so many seconds that were taken are done with."""
        with self._changed:
            self.held_s -= seconds
            self._changed.notify_all()

    def close(self) -> None:
        """No more items will come, or be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
