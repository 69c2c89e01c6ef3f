"""Where embeddings are kept: in memory, or in a folder that later runs use again.

A folder of embeddings holds, for each model and way of embedding, a folder for each choice of
layers, and in it one ``.npy`` file a recording, named by the hash of the recording's content. No
file holds a path: the folder may be moved, and so may the recordings. A file is written beside its
place and put there when it is whole and on the disk, so that a kill costs no more than what was
under way. What is read is mapped, not loaded: a set may be larger than the memory.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ptlab._embed.hidden_states import Layer
from ptlab.errors import DataError

__all__ = ["DiskStore", "MemoryStore"]

logger = logging.getLogger("ptlab")


class MemoryStore:
    """Embeddings in memory, by the digest of the recording.

    Examples
    --------
    >>> store = MemoryStore()
    >>> store.write("5f", (1, 3, 2), [np.zeros((1, 2, 2)), np.ones((1, 1, 2))])
    >>> store.read("5f").shape, store.read("60")
    ((1, 3, 2), None)
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def read(self, digest: str) -> np.ndarray | None:
        """What was written, or None."""
        return self._arrays.get(digest)

    def write(self, digest: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> None:
        """Keep an array that comes in pieces along its axis 1."""
        pieces = list(pieces)
        self._arrays[digest] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)


class DiskStore:
    """Embeddings in a folder.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    key : str
        What the numbers depend on beside the recording and the layers.
    layers : tuple
        What is written; what is read is also looked for where more layers than these were.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     DiskStore(folder, "mini-mean", (0, 1)).write("5f", (2, 1), [np.array([[3.0], [4.0]])])
    ...     DiskStore(folder, "mini-mean", (1,)).read("5f").tolist()
    [[4.0]]
    """

    def __init__(self, folder: str | os.PathLike[str], key: str, layers: tuple[Layer, ...]):
        self._folder = Path(folder) / key / "_".join(map(str, layers))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"The folder of embeddings {folder} cannot be made: {error.strerror}. Give another."
            ) from error
        self._places: list[tuple[Path, slice | list[int]]] = [(self._folder, slice(None))]
        for other in sorted(self._folder.parent.iterdir()):
            names = other.name.split("_")
            if other != self._folder and {str(layer) for layer in layers} <= set(names):
                self._places.append((other, [names.index(str(layer)) for layer in layers]))

    def read(self, digest: str) -> np.ndarray | None:
        """What was written, mapped, or None."""
        for folder, rows in self._places:
            path = _path(folder, digest)
            try:
                return np.load(path, mmap_mode="r")[rows]
            except FileNotFoundError:
                continue
            except (OSError, ValueError, EOFError) as error:
                logger.warning("%s is damaged (%s) and is made again.", path.name, error)
        return None

    def write(self, digest: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> None:
        """Keep an array that comes in pieces along its axis 1."""
        path = _path(self._folder, digest)
        try:
            path.parent.mkdir(exist_ok=True)
            handle, name = tempfile.mkstemp(".part", dir=path.parent)
            try:
                os.close(handle)
                _fill(name, shape, pieces)
                os.replace(name, path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise DataError(
                f"The embeddings in {self._folder} cannot be written: {error.strerror}. What is "
                "there is kept: give it room and run the same again."
            ) from error


def _path(folder: Path, digest: str) -> Path:
    return folder / digest[:2] / f"{digest}.npy"  # 256 folders, as some disks are slow with one


def _fill(name: str, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> None:
    array = np.lib.format.open_memmap(name, "w+", np.float32, shape)
    place = 0
    for piece in pieces:
        array[:, place : place + piece.shape[1]] = piece
        place += piece.shape[1]
    array.flush()
    del array
    with open(name, "r+b") as file:
        os.fsync(file.fileno())
