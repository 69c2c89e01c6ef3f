"""Whatever holds clips and texts -> a `Corpus`; and its clips as a training run reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptlab._finetune.augment import augment_waveform, time_mask
from ptlab._speech.samples import frame_count
from ptlab.data import Corpus, load_folder
from ptlab.errors import DataError

__all__ = ["ByLength", "Clips", "as_corpus", "frames_needed"]

CACHED_S = 3_600.0  # seconds of sound that are kept in memory: 230 MB at 16 kHz
_TEXT_COLUMNS = ("text", "sentence", "transcription", "transcript")
_SPEAKER_COLUMNS = ("speaker", "client_id", "speaker_id")


def as_corpus(source: Any, name: str = "clips") -> Corpus:
    """A `Corpus` from a corpus, a `datasets.Dataset`, or a csv, tsv or folder of one's own.

    Parameters
    ----------
    source : Corpus, datasets.Dataset or path
        A data set needs a column ``audio`` and one with the text (``text``, ``sentence``,
        ``transcription`` or ``transcript``). A table needs ``path`` and ``text``
        (`ptlab.load_folder` takes other names).
    name : str
        What to call it in messages.

    Raises
    ------
    DataError
        If it is nothing of the kind, lacks sound or text, or is empty.

    Examples
    --------
    >>> import datasets
    >>> rows = {"audio": [{"array": [0.0] * 800, "sampling_rate": 16_000}], "sentence": ["Oi!"]}
    >>> as_corpus(datasets.Dataset.from_dict(rows)).frame.columns.tolist()
    ['id', 'text', 'audio']
    """
    if isinstance(source, str | os.PathLike):
        source = load_folder(source)
    elif hasattr(source, "column_names") and hasattr(source, "cast_column"):
        source = _from_dataset(source, name)
    if not isinstance(source, Corpus):
        raise DataError(
            f"{name} is of type {type(source).__name__}; give a Corpus (ptlab.load_corpus, "
            "load_folder, load_common_voice, load_mls), a datasets.Dataset or the path of a table."
        )
    if not len(source):
        raise DataError(f"{name} has no clips: {source!r}.")
    absent = [c for c in ("id", "text") if c not in source.frame]
    if not {"file", "audio"} & set(source.frame):
        absent.append("file or audio")
    if absent:
        raise DataError(f"{name} has no column {', '.join(absent)}: {list(source.frame.columns)}.")
    return source


def _from_dataset(table: Any, name: str) -> Corpus:
    if isinstance(table, dict) or not hasattr(table, "__len__"):  # several splits, or a stream
        raise DataError(
            f"{name} is a {type(table).__name__}; give one split of it that is on disk, as "
            "load_dataset(..., split='train') does without streaming."
        )
    import datasets
    import pandas as pd

    text = next((c for c in _TEXT_COLUMNS if c in table.column_names), None)
    if text is None or "audio" not in table.column_names:
        raise DataError(
            f"{name} has the columns {', '.join(table.column_names)}; needed are audio and "
            f"{' or '.join(_TEXT_COLUMNS)}. table.rename_column(old, new) changes a name."
        )
    if isinstance(table.features["audio"], datasets.Audio):  # decoding would need torchcodec
        table = table.cast_column("audio", datasets.Audio(decode=False))
    columns = {"id": [f"{n:06d}" for n in range(len(table))], "text": list(table[text])}
    speaker = next((c for c in _SPEAKER_COLUMNS if c in table.column_names), None)
    if speaker:
        columns["speaker"] = list(table[speaker])
    return Corpus(name, pd.DataFrame({**columns, "audio": list(table["audio"])}))


def frames_needed(labels: Sequence[int] | np.ndarray) -> int:
    """Frames that CTC needs to spell labels: one each, and a blank between two that are alike.

    Parameters
    ----------
    labels : sequence of int
        Token numbers, as `ptlab.encode` gives them.

    Examples
    --------
    >>> frames_needed([7, 8, 8])
    4
    """
    labels = np.asarray(labels)
    return len(labels) + int((labels[1:] == labels[:-1]).sum())


class Clips(Sequence[dict[str, Any]]):
    """Clips with their labels, by number, as `CTCCollator` takes them.

    What a clip sounds like depends on seed, epoch and number alone: not on the process that reads
    it, on the batch that it is in, or on where a run was killed.

    Parameters
    ----------
    corpus : Corpus
    labels : sequence of ndarray (characters,)
    lengths : sequence of float
        Of the clips, in any unit, to put like ones together.
    receptive_field, hop, sampling_rate : int
        Of the model, in samples, samples and Hz.
    augment : bool
    spec_augment : float or None
        None makes no masks, as for validation.
    seed : int
    """

    def __init__(
        self,
        corpus: Corpus,
        labels: Sequence[np.ndarray],
        lengths: Sequence[float],
        receptive_field: int,
        hop: int,
        sampling_rate: int,
        *,
        augment: bool = False,
        spec_augment: float | None = None,
        seed: int = 0,
    ):
        self.corpus, self.labels, self.lengths = corpus, labels, list(lengths)
        self.sampling_rate = sampling_rate
        self.receptive_field, self.hop = receptive_field, hop
        self.augment, self.spec_augment, self.seed, self.epoch = augment, spec_augment, seed, 0
        self._kept: dict[int, np.ndarray] = {}
        self._kept_samples = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: Any) -> Any:
        rng = np.random.default_rng((self.seed, self.epoch, number))
        waveform, labels = self._waveform(number), self.labels[number]
        if self.augment:
            changed = augment_waveform(waveform, rng, self.sampling_rate)
            if frames_needed(labels) <= self._frames(changed):  # else too fast for its text
                waveform = changed
        clip = {"waveform": waveform, "labels": labels}
        if self.spec_augment is not None:
            clip["mask"] = time_mask(self._frames(waveform), self.spec_augment, rng)
        return clip

    def set_epoch(self, epoch: int) -> None:
        """Say which pass over the clips begins."""
        self.epoch = epoch

    def _frames(self, waveform: np.ndarray) -> int:
        return frame_count(len(waveform), self.receptive_field, self.hop)

    def _waveform(self, number: int) -> np.ndarray:
        if number in self._kept:
            return self._kept[number]
        waveform = self.corpus.audio(number, self.sampling_rate).waveform
        if self._kept_samples + len(waveform) <= CACHED_S * self.sampling_rate:
            self._kept[number] = waveform
            self._kept_samples += len(waveform)
        return waveform


class ByLength:
    """Order of the clips: shuffled, with clips of like length together so that little is padded.

    The Trainer's own sampler (``train_sampling_strategy="group_by_length"``) draws from torch's
    global generator: a run that goes on from a checkpoint would see the clips in another order than
    the run that was killed. Here the order follows from seed and epoch.

    Parameters
    ----------
    clips : Clips
    size : int
        Clips that an update is made from.

    Examples
    --------
    >>> import ptlab
    >>> clips = Clips(ptlab.load_corpus("dev"), [[7]] * 40, [1, 9] * 20, 400, 320, 16_000)
    >>> order = ByLength(clips, size=2)
    >>> sorted(order) == list(range(40)), list(order) == list(order)
    (True, True)
    """

    def __init__(self, clips: Clips, size: int):
        self.clips, self.size, self.epoch = clips, size, 0

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[int]:
        import torch
        from transformers.trainer_pt_utils import get_length_grouped_indices

        seed = int(np.random.SeedSequence((self.clips.seed, self.epoch)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        return iter(get_length_grouped_indices(self.clips.lengths, self.size, generator=generator))

    def set_epoch(self, epoch: int) -> None:
        """Called at the start of each epoch, also of one that goes on in its middle."""
        self.epoch = epoch
        self.clips.set_epoch(epoch)
