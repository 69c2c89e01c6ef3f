"""The layers of a speech encoder, read while it runs.

Which tensor a layer is, for wav2vec2 and its relatives:

- ``"conv"``: the convolutions' output, normalised and projected to the hidden size (the feature
  projection). A frame of it has heard 400 samples, 25 ms, and nothing else.
- ``0``: the input of the first transformer layer, which is ``hidden_states[0]`` of transformers and
  the layer 0 of the probing papers. The positional convolution has been added to ``"conv"`` (and in
  base models a layer norm comes after), so that a frame has heard 1.28 s to either side.
- ``1`` to ``num_hidden_layers``: the output of each transformer layer, ``hidden_states[n]`` (but
  for the last one in transformers before 5.16, which is ``"final"`` in the words below).
- ``"final"``: what the head is given. XLSR-53 and other models with ``do_stable_layer_norm`` have a
  layer norm after the last layer: there ``"final"`` is ``last_hidden_state`` and is not the last
  layer, whose scale no norm has brought down. In models without that norm the two are one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab._speech.samples import frame_count
from ptlab._speech.speech_model import SpeechModel, padded
from ptlab.audio import normalize
from ptlab.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "CONV",
    "FINAL",
    "Layer",
    "LayerReader",
    "Layers",
    "find_layers",
    "hidden_states",
    "hook_layers",
    "with_random_weights",
]

CONV, FINAL = "conv", "final"
RANDOM_SEED = 53_000_000  # not 0, with which a model may have begun its own training
Layer = int | str
Layers = Layer | Sequence[Layer]


def find_layers(layers: Layers, count: int) -> tuple[Layer, ...]:
    """The names of the layers that are meant, in the order given.

    Parameters
    ----------
    layers : int, str or sequence of them
        Numbers from 0 to ``count``, or from the end as in ``-1``; ``"conv"``, ``"final"``; or
        ``"all"`` for the numbers 0 to ``count``, as transformers gives them.
    count : int
        Transformer layers of the model.

    Raises
    ------
    ModelError
        If there is no such layer, none at all, or one twice.

    Examples
    --------
    >>> find_layers("all", 3), find_layers(["conv", -1], 3)
    ((0, 1, 2, 3), ('conv', 3))
    """
    if isinstance(layers, str) and layers == "all":
        return tuple(range(count + 1))
    asked = list(layers) if isinstance(layers, list | tuple | range | np.ndarray) else [layers]
    found = [_find_layer(layer, count) for layer in asked]
    if not found or len(set(found)) < len(found):
        raise ModelError(f"layers={layers!r}: give at least one, and each once.")
    return tuple(found)


def _find_layer(layer: Any, count: int) -> Layer:
    if isinstance(layer, int | np.integer) and -count - 1 <= layer <= count:
        return int(layer) % (count + 1)
    if isinstance(layer, str) and layer in (CONV, FINAL):
        return layer
    raise ModelError(
        f"No layer {layer!r}; there are 0 to {count}, {CONV!r}, {FINAL!r}, and 'all' for 0 to "
        f"{count}."
    )


class LayerReader:
    """Runs an encoder up to the last layer that is wanted, and keeps the wanted layers only.

    The unit of its input is that of the encoder: a sample, or a frame of filter banks for
    wav2vec2-bert. ``sampling_rate``, ``hop`` and ``receptive_field`` are in this unit, so that what
    cuts samples into windows cuts these too.

    Parameters
    ----------
    model : SpeechModel
        With or without a CTC head, which is not run.
    layers : tuple
        From `find_layers`.

    Examples
    --------
    >>> import ptlab
    >>> with LayerReader(ptlab.load_model("mini", device="cpu"), (0, "final")) as reader:
    ...     piece = reader.prepared(np.zeros(16_000, np.float32))
    ...     reader.read([piece])[0].shape
    torch.Size([2, 49, 256])
    """

    def __init__(self, model: SpeechModel, layers: tuple[Layer, ...]):
        self.model, self.layers = model, layers
        self.device, self.pads_exactly = model.device, model.pads_exactly
        self._encoder = model.model.base_model
        self._takes_features = model.model.main_input_name == "input_features"
        self.frame_hop = model.encoder_hop  # in samples; an adapter above would merge frames
        self.hop = 1 if self._takes_features else self.frame_hop
        self.receptive_field = 1 if self._takes_features else model.receptive_field
        self.sampling_rate = self.hop * model.sampling_rate // self.frame_hop
        self._found = threading.local()  # two mini-batches may run at once
        self._hooks: list[Any] = []

    def __enter__(self) -> LayerReader:
        self._hooks += hook_layers(self._encoder, self.layers, self._keep)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def prepared(self, waveform: np.ndarray) -> np.ndarray:
        """What the encoder is given of a whole recording: normalised samples, or filter banks.

        Windows are cut after this, as a window normalised by itself would be another sound.
        """
        if self._takes_features:
            batch = self.model.feature_extractor(
                waveform, sampling_rate=self.model.sampling_rate, return_tensors="np"
            )
            return batch["input_features"][0][: self.model_frames(len(waveform))]
        return normalize(waveform) if self.model.normalizes else waveform

    def model_frames(self, samples: int) -> int:
        """Frames of the encoder for so many samples of sound; 0 if they are too few."""
        return frame_count(samples, self.model.receptive_field, self.frame_hop)

    def frames(self, length: int) -> int:
        """Frames for so much of `prepared`."""
        return frame_count(length, self.receptive_field, self.hop)

    def read(self, pieces: Sequence[np.ndarray], gradients: bool = False) -> list[torch.Tensor]:
        """Layers of each piece, (layers, frames, hidden), its valid frames only."""
        import torch

        from ptlab._speech.cpu_products import cpu_products

        with torch.inference_mode(not gradients), cpu_products():
            found = self._run(self._padded(pieces))
            stack = torch.stack([found[layer] for layer in self.layers], dim=1)
        return [s[:, : self.frames(len(p))] for s, p in zip(stack, pieces, strict=True)]

    def log_probs(self, pieces: Sequence[np.ndarray], batch_size: int) -> list[np.ndarray]:
        """`read` as arrays, by the name under which `MiniBatches` calls a model."""
        return [t.float().cpu().numpy().copy() for t in self.read(pieces)]

    def _run(self, inputs: dict[str, torch.Tensor]) -> dict[Layer, torch.Tensor]:
        self._found.layers = {}
        with suppress(_AllFoundError):
            self._encoder(**inputs)
        return self._found.__dict__.pop("layers")

    def _padded(self, pieces: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        import torch

        values, mask = padded(pieces)
        name = self.model.model.main_input_name
        inputs = {name: torch.from_numpy(values).to(self.device, self.model.dtype)}
        if len(pieces) > 1:  # alone there is no padding to hide
            inputs["attention_mask"] = torch.from_numpy(mask).to(self.device)
        return inputs

    def _keep(self, layer: Layer, output: torch.Tensor) -> None:
        found = getattr(self._found, "layers", None)
        if found is None:  # the model is run by somebody else
            return
        found[layer] = output
        if len(found) == len(self.layers):
            raise _AllFoundError


def hook_layers(
    encoder: Any, layers: Sequence[Layer], keep: Callable[[Layer, torch.Tensor], None]
) -> list[Any]:
    """Have ``keep(layer, tensor)`` called while an encoder runs; the hooks, to be removed."""
    return [_hook(encoder, layer, keep) for layer in layers]


def _hook(encoder: Any, layer: Layer, keep: Callable[[Layer, torch.Tensor], None]) -> Any:
    if layer == 0:
        first = encoder.encoder.layers[0]
        return first.register_forward_pre_hook(lambda _, inputs: keep(0, inputs[0]))
    if layer in (CONV, FINAL):
        module = encoder.feature_projection if layer == CONV else encoder.encoder
    else:
        module = encoder.encoder.layers[int(layer) - 1]
    return module.register_forward_hook(
        lambda _, inputs, output: keep(layer, output if hasattr(output, "dim") else output[0])
    )


class _AllFoundError(Exception):
    """Stops a model after the last layer that is wanted; it never gets out of this room."""


def hidden_states(
    waveforms: Sequence[np.ndarray],
    model: SpeechModel,
    layers: Layers = "all",
    *,
    gradients: bool = False,
) -> list[torch.Tensor]:
    """Layers of an encoder as tensors: for what `ptlab.embed` leaves out, gradients above all.

    All waveforms are run at once if that changes nothing (see `SpeechModel.pads_exactly`), else one
    by one.

    Parameters
    ----------
    waveforms : sequence of ndarray (samples,)
        As `ptlab.load_audio` gives them.
    model : SpeechModel
    layers
        See `find_layers`.
    gradients : bool
        Whether a loss on the result reaches the weights.

    Returns
    -------
    list of Tensor (layers, frames, hidden)
        On the model's device, in its number type.

    Raises
    ------
    ModelError
        If there is no such layer, or a waveform is too short for one frame.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> last = hidden_states([np.zeros(16_000)], model, "final", gradients=True)[0]
    >>> last.shape, last.requires_grad
    (torch.Size([1, 49, 256]), True)
    """
    with LayerReader(model, find_layers(layers, model.num_layers)) as reader:
        short = [len(w) for w in waveforms if not reader.model_frames(len(w))]
        if short:
            raise ModelError(
                f"A waveform of {short[0]} samples; the model needs {model.receptive_field} for "
                "its first frame. Record more."
            )
        pieces = [reader.prepared(np.asarray(w, np.float32)) for w in waveforms]
        if reader.pads_exactly:
            return reader.read(pieces, gradients)
        return [reader.read([piece], gradients)[0] for piece in pieces]


def with_random_weights(model: SpeechModel, seed: int = 0) -> SpeechModel:
    """The encoder of a model as it was before any training, drawn as transformers draws it.

    Parameters
    ----------
    model : SpeechModel
        With or without a CTC head; it stays as it is.
    seed : int

    Returns
    -------
    SpeechModel
        Without a CTC head.

    Examples
    --------
    >>> import ptlab
    >>> with_random_weights(ptlab.load_model("mini", device="cpu"))
    SpeechModel('mini with random weights', wav2vec2, 7.0 M parameters, cpu, float32)
    """
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):  # the numbers that others draw stay as they were
        torch.manual_seed(RANDOM_SEED + seed)
        encoder = AutoModel.from_config(model.model.config)
    encoder.to(model.device, model.dtype)
    return SpeechModel(f"{model.name} with random weights", encoder, model.feature_extractor, None)
