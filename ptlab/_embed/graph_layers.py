"""The layers that an exported graph gives, read as those of torch are (`ptlab.hidden_states`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ptlab._embed.hidden_states import Layer
from ptlab._speech.samples import frame_count
from ptlab.audio import normalize
from ptlab.onnx_model import OnnxModel

__all__ = ["GraphReader"]


class GraphReader:
    """Takes the place of a `LayerReader` for a graph that was exported with its hidden states.

    Parameters
    ----------
    model : OnnxModel
    layers : tuple
        From `find_layers`.
    """

    def __init__(self, model: OnnxModel, layers: tuple[Layer, ...]):
        self.model, self.layers = model, layers
        self.device, self.pads_exactly = model.device, model.pads_exactly
        self.frame_hop = self.hop = model.encoder_hop
        self.receptive_field, self.sampling_rate = model.receptive_field, model.sampling_rate

    def __enter__(self) -> GraphReader:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepared(self, waveform: np.ndarray) -> np.ndarray:
        """What the graph is given of a whole recording."""
        return normalize(waveform) if self.model.normalizes else waveform

    def frames(self, samples: int) -> int:
        """Frames of the encoder for so many samples; 0 if they are too few."""
        return frame_count(samples, self.receptive_field, self.hop)

    model_frames = frames

    def log_probs(self, pieces: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
        """Layers of each piece, by the name under which `MiniBatches` calls a model."""
        return self.model.hidden_states(pieces, self.layers)
