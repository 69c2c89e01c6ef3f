"""A loaded model to a folder with one ONNX graph, checked against torch before it is kept.

>>> import ptlab
>>> from tempfile import TemporaryDirectory
>>> clip = ptlab.load_corpus("test").frame.file[0]
>>> with TemporaryDirectory() as folder:
...     made = ptlab.export_onnx("mini", f"{folder}/onnx")
...     text = ptlab.transcribe(clip, model=made.load()).text  # neither torch nor transformers
>>> made.difference < 1e-3, text == ptlab.transcribe(clip, model="mini").text
(True, True)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._export.onnx_graph import check_clips, check_exportable, require_onnx, write_graph
from ptlab.errors import ModelError
from ptlab.models import SpeechModel, load_speech_model
from ptlab.onnx_model import GRAPH, load_onnx

if TYPE_CHECKING:
    from ptlab.onnx_model import OnnxModel

__all__ = ["Export", "export_onnx"]

BELONGINGS = (  # what may lie beside a graph
    "config.json", "vocab.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json", "preprocessor_config.json", "calibration.json",
)  # fmt: skip
TOLERANCE = 1e-3  # of a log-probability; float32 on another runtime moved mini's by 2e-5


@dataclass(frozen=True)
class Export(os.PathLike[str]):
    """A folder that `ptlab.load_model` loads; made by `export_onnx` and `ptlab.quantize`.

    Attributes
    ----------
    folder : Path
        Holds ``model.onnx``, and beside it what other tools ask for: configuration, tokenizer,
        feature extractor, and the calibration of confidences if the model has one.
    precision : str
        How the weights are stored.
    size_bytes : int
        Of the graph with its weights.
    difference : float
        Largest difference in log-probability to what it was made from, on noise of several
        lengths, alone and padded. What it means for words, `ptlab.compare` says.

    Examples
    --------
    >>> print(Export(Path("runs/int8"), "int8", 9_390_564, 1.25))
    int8: int8, 9.4 MB, log-probs within 1.2 of what it was made from
    """

    folder: Path
    precision: str
    size_bytes: int
    difference: float

    def __fspath__(self) -> str:
        return os.fspath(self.folder)

    def __str__(self) -> str:
        return (
            f"{self.folder.name}: {self.precision}, {self.size_bytes / 1e6:.1f} MB, log-probs "
            f"within {self.difference:.2g} of what it was made from"
        )

    def load(self, **options: Any) -> OnnxModel:
        """The model, as `ptlab.load_onnx` loads it."""
        return load_onnx(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """The fields, with the folder as text."""
        return asdict(self) | {"folder": str(self.folder)}


def export_onnx(
    model: str | os.PathLike[str] | SpeechModel,
    path: str | os.PathLike[str],
    *,
    hidden_states: bool = False,
    overwrite: bool = False,
) -> Export:
    """Write a model as ONNX, for any number of clips of any length, and check it against torch.

    The model itself is not changed. Its weight norm becomes plain weights in the graph, and the
    graph takes an attention mask where that makes padded batches exact; other models are run clip
    by clip, as they are in torch.

    Parameters
    ----------
    model : str, path or SpeechModel
        Of wav2vec2, HuBERT, WavLM or data2vec-audio, with a CTC head, in float32 on the CPU.
    path : path
        The folder to make.
    hidden_states : bool
        Whether the graph gives its layers too, so that `ptlab.embed` can use it.
    overwrite : bool
        Whether a folder that is there is replaced, once the new one has passed the check.

    Returns
    -------
    Export

    Raises
    ------
    ModelError
        If the package onnx is missing, the folder is there, the model is of another kind or too
        large for one file, or the graph does not give what torch gives.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as parent:
    ...     made = export_onnx("mini", parent + "/mini-onnx")
    ...     model = made.load()
    >>> made.difference < 1e-3, model.frames(16_000), model.vocabulary[:2]
    (True, 49, ('<pad>', '<s>'))
    """
    require_onnx()
    model = load_speech_model(model, device="cpu", dtype="float32")
    check_exportable(model)
    with new_folder(path, overwrite) as folder:
        write_graph(model, folder / GRAPH, hidden_states)
        _save_belongings(model, folder)
        difference = check_parity(model, load_onnx(folder, device="cpu"), TOLERANCE)
        size = (folder / GRAPH).stat().st_size
    return Export(Path(path).expanduser(), "float32", size, difference)


def check_parity(model: Any, exported: Any, tolerance: float | None = None) -> float:
    """Largest difference in log-probs between two models, clips alone and in padded batches.

    Parameters
    ----------
    model, exported
        What offers ``log_probs``.
    tolerance : float, optional
        Of a log-probability near zero; far ones, in which nothing is spelled, may differ by as
        much in proportion.

    Raises
    ------
    ModelError
        If shapes differ, a number is not finite, or the tolerance is exceeded.
    """
    clips, worst = check_clips(model), 0.0
    for batch_size in (1, len(clips)):
        expected = model.log_probs(clips, batch_size=batch_size)
        found = exported.log_probs(clips, batch_size=batch_size)
        for clip, a, b in zip(clips, expected, found, strict=True):
            where = f"a clip of {len(clip)} samples in batches of {batch_size}"
            if a.shape != b.shape or not np.isfinite(b).all():
                raise ModelError(
                    f"The new graph gives {b.shape} numbers, not all finite perhaps, where "
                    f"{a.shape} are expected, for {where}; nothing was kept."
                )
            gap = np.abs(a - b)
            if tolerance is not None and (gap > tolerance * np.maximum(1, np.abs(a))).any():
                raise ModelError(
                    f"The new graph differs from the model by {gap.max():.2g} in log-probability "
                    f"(allowed: {tolerance:g}) for {where}; nothing was kept. Run this model in "
                    "torch, and report its kind."
                )
            worst = max(worst, float(gap.max(initial=0)))
    return worst


@contextmanager
def new_folder(path: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """A folder to fill, which takes its name only if nothing fails."""
    target = Path(path).expanduser()
    if target.exists() and not overwrite:
        raise ModelError(f"{str(path)!r} is there already: give another path, or overwrite=True.")
    if target.exists() and not (target / GRAPH).is_file():
        raise ModelError(
            f"{str(path)!r} is no folder of an exported model, and is not overwritten: give "
            "another path."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    try:
        yield filling
        filling.chmod(0o755)  # mkdtemp makes it for its owner alone
        if target.exists():
            shutil.rmtree(target)
        filling.rename(target)
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be written: {error}.") from error
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def copy_belongings(source: Path, folder: Path) -> None:
    """Copy the small files that lie beside a graph."""
    for name in BELONGINGS:
        if (source / name).is_file():
            shutil.copy(source / name, folder)


def _save_belongings(model: SpeechModel, folder: Path) -> None:
    """What other tools ask for: they read configuration, tokenizer and feature extractor."""
    model.model.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    model.feature_extractor.save_pretrained(folder)
    calibration = model.folder / "calibration.json" if model.folder else None
    if calibration and calibration.is_file():
        shutil.copy(calibration, folder)
