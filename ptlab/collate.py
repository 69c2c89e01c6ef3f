"""Clips of any length -> one batch for CTC training.

>>> import ptlab
>>> model, corpus = ptlab.load_model("mini", device="cpu"), ptlab.load_corpus("dev")
>>> collator = ptlab.CTCCollator(model.feature_extractor)
>>> batch = collator([
...     {"waveform": corpus.audio(n).waveform,
...      "labels": ptlab.encode(ptlab.normalize_text(corpus.row(n)["text"]))}
...     for n in range(2)
... ])
>>> longest = max(corpus.frame.text[:2].map(ptlab.normalize_text).map(len))
>>> batch["labels"].shape == (2, longest)
True
>>> bool((batch["labels"] == ptlab.IGNORED).any())  # the shorter text is filled up with -100
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._speech.samples import frame_count

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORED", "CTCCollator"]

IGNORED = -100
"""-100, the label of padding: the loss leaves it out."""
MASKS = "mask_time_indices"  # where the encoders of transformers look for them


class CTCCollator:
    """Makes batches: sounds are padded with zeros, labels with -100, each to its own longest.

    Every sound is normalised by itself and before its padding, whatever the feature extractor says
    about attention masks: without a mask transformers would normalise sound and padding as one,
    and what a clip sounds like would depend on the batch that it is in.

    Parameters
    ----------
    feature_extractor
        A `transformers.Wav2Vec2FeatureExtractor`.
    receptive_field, hop : int
        Of the model, in samples: how long the masks of SpecAugment are.
    pad_to_multiple_of : int
        Samples. Batches of few different lengths cost less memory: for every new shape oneDNN
        keeps what it has prepared, and the allocator finds less to use again.

    Examples
    --------
    >>> from transformers import Wav2Vec2FeatureExtractor
    >>> collator = CTCCollator(Wav2Vec2FeatureExtractor(do_normalize=True))
    >>> batch = collator([
    ...     {"waveform": np.ones(400, np.float32), "labels": [7, 8]},
    ...     {"waveform": np.ones(720, np.float32), "labels": [9]},
    ... ])
    >>> batch["labels"].tolist(), batch["attention_mask"].sum(-1).tolist()
    ([[7, 8], [9, -100]], [400, 720])
    """

    def __init__(
        self,
        feature_extractor: Any,
        receptive_field: int = 400,
        hop: int = 320,
        *,
        pad_to_multiple_of: int = 1,
    ):
        self.feature_extractor = feature_extractor
        self.receptive_field, self.hop = receptive_field, hop
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, clips: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """One batch.

        Parameters
        ----------
        clips : sequence of dict
            Each with ``waveform`` (samples,) at the model's rate, ``labels`` (characters,), and
            where SpecAugment is wanted ``mask`` (frames,).

        Returns
        -------
        dict of Tensor
            ``input_values`` and ``attention_mask`` (clips, samples), ``labels`` (clips,
            characters), and ``mask_time_indices`` (clips, frames) if there are masks.
        """
        import torch

        batch = dict(
            self.feature_extractor(
                [clip["waveform"] for clip in clips],
                sampling_rate=self.feature_extractor.sampling_rate,
                padding=True,
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_attention_mask=True,
                return_tensors="pt",
            )
        )
        batch["labels"] = torch.from_numpy(_padded([c["labels"] for c in clips], IGNORED))
        if "mask" in clips[0]:
            samples = batch["input_values"].shape[1]
            frames = frame_count(samples, self.receptive_field, self.hop)
            masks = _padded([clip["mask"] for clip in clips], 0, frames)
            batch[MASKS] = torch.from_numpy(masks.astype(bool))
        return batch


def _padded(rows: Sequence[Any], fill: int, width: int | None = None) -> np.ndarray:
    """
    >>> _padded([[1, 2], [3]], -100).tolist()
    [[1, 2], [3, -100]]
    """
    table = np.full((len(rows), width or max(map(len, rows))), fill, dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table
