"""The bar of a batch: files and hours done, speed, what is not ok, and the time left."""

from __future__ import annotations

import time
from types import TracebackType

from ptlab._batch.inputs import Sources
from ptlab._batch.journal import Entry

__all__ = ["Progress"]


class Progress:
    """A `tqdm.auto` bar. It moves by bytes, as files may be of very different length.

    Parameters
    ----------
    sources : Sources
    show : bool

    Examples
    --------
    >>> with Progress(Sources(2, lambda number: None), show=False) as bar:
    ...     bar.done(0, Entry(0, 10, "ok", 7_200.0), heard_s=7_200.0)
    >>> print(bar)  # doctest: +ELLIPSIS
    1/2 files, 2.00 h of audio, ... times real time, 0 not ok
    """

    def __init__(self, sources: Sources, show: bool):
        from tqdm.auto import tqdm

        self._count, self._sizes = sources.count, sources.sizes
        self._files, self._audio_s, self._heard_s, self._not_ok = 0, 0.0, 0.0, 0
        self._start = time.perf_counter()
        self._bar = tqdm(
            total=sum(self._sizes) if self._sizes else self._count,
            disable=not show,
            bar_format="{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]",
        )
        self._bar.set_description_str(str(self))

    def __str__(self) -> str:
        speed = self._heard_s / max(1e-9, time.perf_counter() - self._start)
        return (
            f"{self._files}/{self._count} files, {self._audio_s / 3600:.2f} h of audio, "
            f"{speed:.1f} times real time, {self._not_ok} not ok"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def done(self, number: int, entry: Entry, heard_s: float = 0.0) -> None:
        """Count a file; ``heard_s`` are the seconds of audio that the model heard for it."""
        self._files += 1
        self._audio_s += entry.duration_s
        self._heard_s += heard_s
        self._not_ok += entry.status != "ok"
        self._bar.set_description_str(str(self), refresh=False)
        self._bar.update(self._sizes[number] if self._sizes else 1)
