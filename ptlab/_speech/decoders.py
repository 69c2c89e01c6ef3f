"""Files to samples: libsndfile first, then the ffmpeg program."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ptlab.errors import AudioError

if TYPE_CHECKING:
    import soundfile

__all__ = ["decode_bytes", "decode_file", "open_bytes", "open_file", "read_blocks"]

logger = logging.getLogger("ptlab")

BLOCK_FRAMES = 2**21  # read at once: a header may promise more than there is, or than fits
_ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
_UNKNOWN_SIZE = 0x7FFF_0000

_READABLE = "WAV, FLAC, OGG, Opus, MP3 and AIFF are read at once; M4A, WebM and video with ffmpeg"
_SIGNS = (  # first bytes of what people give by mistake, and what to say to them
    (b"version https://git-lfs", "a Git LFS pointer, not the file; run: git lfs pull"),
    (b"<", "a web page or XML; download the sound itself"),
    (b"{", "JSON text"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)


def decode_file(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Samples (samples, channels) float32 and rate in Hz of a sound file.

    Raises
    ------
    AudioError
        If the file is missing, empty, not readable, cut short or not audio; the message names
        ffmpeg where that would help. An Ogg or MP3 file that was cut is read up to the cut.

    Examples
    --------
    >>> decode_file("no such file.wav")
    Traceback (most recent call last):
    ptlab.errors.AudioError: No file 'no such file.wav'; check the path and the current folder.
    """
    with open_file(path) as (sound, name):
        return _read(sound, name), sound.samplerate


def decode_bytes(content: bytes) -> tuple[np.ndarray, int]:
    """Samples (samples, channels) float32 and rate in Hz of the content of a sound file.

    Raises
    ------
    AudioError
        As `decode_file`.

    Examples
    --------
    >>> decode_bytes(b"")
    Traceback (most recent call last):
    ptlab.errors.AudioError: The file (0 bytes) is empty; was it saved or sent whole?
    """
    with open_bytes(content) as (sound, name):
        return _read(sound, name), sound.samplerate


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """A sound file, open to be read, and its name for messages.

    Raises
    ------
    AudioError
        As `decode_file`, for what the first bytes and the header tell.
    """
    name = os.fspath(path)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if "://" in name:
        raise AudioError(f"{name!r} is an address, not a file; download it and give its path.")
    path = Path(name).expanduser()
    if path.is_dir():
        raise AudioError(f"{name!r} is a folder; give one file, or loop over its files.")
    if not path.exists():
        raise AudioError(f"No file {name!r}; check the path and the current folder.")
    if not path.is_file():  # it might never end, and libsndfile must go back and forth in it
        raise AudioError(
            f"{name!r} is a pipe or a device, not a file; save its sound to a file and give that."
        )
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        message = f"Cannot open {name!r}: {error.strerror}; check its permissions."
        raise AudioError(message) from None
    with _opened(path, head, repr(name)) as sound:
        yield sound, repr(name)


@contextmanager
def open_bytes(content: bytes) -> Iterator[tuple[soundfile.SoundFile, str]]:
    """The content of a sound file, open to be read, and its name for messages.

    Raises
    ------
    AudioError
        As `decode_bytes`, for what the first bytes and the header tell.
    """
    name = f"The file ({len(content)} bytes)"
    with _opened(content, content[:64], name) as sound:
        yield sound, name


def read_blocks(
    file: soundfile.SoundFile, name: str, frames: int = BLOCK_FRAMES
) -> Iterator[np.ndarray]:
    """Samples (up to ``frames``, channels) float32 till the end; none for an empty file.

    What is damaged is refused or, in MP3, said.

    Examples
    --------
    >>> import soundfile
    >>> content = io.BytesIO()
    >>> soundfile.write(content, np.zeros(25), 8_000, format="WAV")
    >>> with open_bytes(content.getvalue()) as (sound, name):
    ...     [block.shape for block in read_blocks(sound, name, 10)]
    [(10, 1), (10, 1), (5, 1)]
    """
    count = 0
    while True:
        try:
            block = file.read(frames, dtype="float32", always_2d=True)
        except RuntimeError as error:
            raise AudioError(
                f"{name} is damaged or cut short ({str(error).rstrip('.')}). Copy, download or "
                "record it again."
            ) from error
        if not len(block):
            break
        count += len(block)
        yield block
    if count < 0.98 * file.frames:  # MP3 says its length in a note, or it is estimated
        lost = (file.frames - count) / file.samplerate
        logger.warning("%s says that it is %.1f s longer than it is: cut short?", name, lost)


def _read(file: soundfile.SoundFile, name: str) -> np.ndarray:
    """All samples (samples, channels)."""
    blocks = list(read_blocks(file, name)) or [np.zeros((0, file.channels), np.float32)]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


@contextmanager
def _opened(source: Path | bytes, head: bytes, name: str) -> Iterator[soundfile.SoundFile]:
    if not head:
        raise AudioError(f"{name} is empty; was it saved or sent whole?", "empty")
    import soundfile

    _require_whole(head, source.stat().st_size if isinstance(source, Path) else len(source), name)
    with ExitStack() as stack:
        try:
            sound = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        except (RuntimeError, TypeError) as error:  # TypeError: takes .raw as header-less
            reason = str(error).rpartition("Error opening")[2].rpartition(">: ")[2].rstrip(".")
            sound = stack.enter_context(_by_ffmpeg(source, head, name, reason))
        with sound:
            yield sound


def _require_whole(head: bytes, size: int, name: str) -> None:
    """Refuse WAV and AIFF that end before they should: libsndfile would read them without a word.

    Programs that write into a pipe cannot know the size and put a number near 2 ** 31 or 2 ** 32.
    """
    order = _ORDERS.get(head[:4])
    promised = int.from_bytes(head[4:8], order) + 8 if order else 0
    if size + 8 < promised < _UNKNOWN_SIZE:  # some programs count the eight bytes of the head too
        raise AudioError(
            f"{name} is cut short: it has {size:,} of {promised:,} bytes. Copy, download or "
            "record it again."
        )


@contextmanager
def _by_ffmpeg(
    source: Path | bytes, head: bytes, name: str, reason: str
) -> Iterator[soundfile.SoundFile]:
    """What ffmpeg makes of a file, through a temporary file: hours do not fit into memory."""
    for sign, meaning in _SIGNS:
        if head.lstrip().startswith(sign):
            raise AudioError(f"{name} is {meaning}. {_READABLE}.", "unsupported")
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(_advice(head, name, reason), "unsupported")
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path, decoded = Path(folder) / "sound", Path(folder) / "decoded.wav"
        if isinstance(source, bytes):  # not a pipe: M4A has its index at the end
            path.write_bytes(source)
        _run_ffmpeg(program, path if isinstance(source, bytes) else source, decoded, name, reason)
        try:
            sound = soundfile.SoundFile(decoded)
        except RuntimeError as error:
            message = f"{name} cannot be read. ffmpeg: its output is not sound."
            raise AudioError(message) from error
        with sound:
            yield sound


def _run_ffmpeg(program: str, path: Path, decoded: Path, name: str, reason: str) -> None:
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    with decoded.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)
    if done.returncode or not decoded.stat().st_size:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        said = last[0].replace(f"file:{path}", "the file") if last else "no sound found"
        raise AudioError(
            f"{name} is not audio that can be read. libsndfile: {reason}; ffmpeg: {said}. "
            f"{_READABLE}.",
            "unsupported",
        )


def _advice(head: bytes, name: str, reason: str) -> str:
    """What to do about a file that libsndfile refuses where there is no ffmpeg."""
    install = (
        "install ffmpeg (conda install ffmpeg, apt install ffmpeg, brew install ffmpeg, "
        "winget install ffmpeg) or convert it to WAV"
    )
    if head[4:8] == b"ftyp":
        return f"{name} is M4A or MP4, which needs ffmpeg, and ffmpeg is not found; {install}."
    if head.startswith(b"\x1aE\xdf\xa3"):
        return f"{name} is WebM or MKV, which needs ffmpeg, and ffmpeg is not found; {install}."
    return (
        f"{name} is not audio that libsndfile can read ({reason}). {_READABLE}: if it is such a "
        f"file, {install}."
    )
