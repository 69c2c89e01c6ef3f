"""Files to samples: libsndfile first, then the ffmpeg program."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ptlab.errors import AudioError

if TYPE_CHECKING:
    import soundfile

__all__ = ["decode_bytes", "decode_file"]

logger = logging.getLogger("ptlab")

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


def decode_file(path: str | os.PathLike) -> tuple[np.ndarray, int]:
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
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        message = f"Cannot open {name!r}: {error.strerror}; check its permissions."
        raise AudioError(message) from None
    return _decode(path, head, repr(name))


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
    return _decode(content, content[:64], f"The file ({len(content)} bytes)")


def _decode(source: Path | bytes, head: bytes, name: str) -> tuple[np.ndarray, int]:
    if not head:
        raise AudioError(f"{name} is empty; was it saved or sent whole?")
    import soundfile

    _require_whole(head, source.stat().st_size if isinstance(source, Path) else len(source), name)
    try:
        opened = soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (RuntimeError, TypeError) as error:  # TypeError: soundfile takes .raw as header-less
        reason = str(error).rpartition("Error opening")[2].rpartition(">: ")[2].rstrip(".")
        return _by_ffmpeg(source, head, name, reason)
    with opened:
        return _read(opened, name), opened.samplerate


def _require_whole(head: bytes, size: int, name: str) -> None:
    """Refuse WAV and AIFF that end before they should: libsndfile would read them without a word.

    Programs that write into a pipe cannot know the size and put a number near 2 ** 31 or 2 ** 32.
    """
    order = {b"RIFF": "little", b"FORM": "big"}.get(head[:4])
    promised = int.from_bytes(head[4:8], order) + 8 if order else 0  # type: ignore[arg-type]
    if size + 8 < promised < _UNKNOWN_SIZE:  # some programs count the eight bytes of the head too
        raise AudioError(
            f"{name} is cut short: it has {size:,} of {promised:,} bytes. Copy, download or "
            "record it again."
        )


def _read(file: soundfile.SoundFile, name: str) -> np.ndarray:
    """All samples (samples, channels); what is damaged is refused or, in MP3, said."""
    try:
        samples = file.read(dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise AudioError(
            f"{name} is damaged or cut short ({str(error).rstrip('.')}). Copy, download or record "
            "it again."
        ) from error
    if len(samples) < 0.98 * file.frames:  # MP3 says its length in a note, or it is estimated
        lost = (file.frames - len(samples)) / file.samplerate
        logger.warning("%s says that it is %.1f s longer than it is: cut short?", name, lost)
    return samples


def _by_ffmpeg(source: Path | bytes, head: bytes, name: str, reason: str) -> tuple[np.ndarray, int]:
    for sign, meaning in _SIGNS:
        if head.lstrip().startswith(sign):
            raise AudioError(f"{name} is {meaning}. {_READABLE}.")
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(_advice(head, name, reason))
    if isinstance(source, Path):
        return _run_ffmpeg(program, source, name, reason)
    with tempfile.TemporaryDirectory() as folder:  # not a pipe: M4A has its index at the end
        path = Path(folder) / "sound"
        path.write_bytes(source)
        return _run_ffmpeg(program, path, name, reason)


def _run_ffmpeg(program: str, path: Path, name: str, reason: str) -> tuple[np.ndarray, int]:
    import soundfile

    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
    command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        said = last[0].replace(f"file:{path}", "the file") if last else "no sound found"
        raise AudioError(
            f"{name} is not audio that can be read. libsndfile: {reason}; ffmpeg: {said}. "
            f"{_READABLE}."
        )
    try:
        return soundfile.read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise AudioError(f"{name} cannot be read. ffmpeg: its output is not sound.") from error


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
