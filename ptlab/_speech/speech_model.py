"""A loaded CTC model: waveforms in, log-probabilities out.

The rest of ptlab asks of a model only what `CTCModel` lists, so that another runtime that offers
this can take its place, as `ptlab.onnx_model` does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ptlab._speech.roads import Road
from ptlab._speech.samples import frame_count
from ptlab.audio import normalize
from ptlab.errors import ModelError
from ptlab.minibatches import plan_minibatches

if TYPE_CHECKING:
    import torch

__all__ = [
    "CTCModel",
    "OnGrid",
    "SpeechModel",
    "digest_of_model",
    "log_probs_in_batches",
    "missing_of_a_model",
    "padded",
]

BATCH_SECONDS = 80.0  # padded audio run at once by default: about 2 GB of activations for XLSR-53
MISSING_TOKEN = "<unk>"  # stands for ids that the tokenizer does not name
# What a digest leaves out: names, versions, what saving writes into the configuration of a model
# in use ("architectures"), and the number type, which is that of the weights.
_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "architectures", "dtype")
FBANK_WINDOW_S, FBANK_HOP_S = 0.025, 0.010  # Kaldi filter banks, the input of wav2vec2-bert


class OnGrid(Protocol):
    """What has frames, ``hop`` samples apart: enough to cut sound into windows."""

    @property
    def sampling_rate(self) -> int: ...
    @property
    def hop(self) -> int: ...


class CTCModel(OnGrid, Protocol):
    """What transcribes, whatever runs it: `SpeechModel`, which explains all this, or another."""

    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> tuple[str, ...]: ...
    @property
    def blank(self) -> int: ...
    @property
    def word_delimiter(self) -> str: ...
    @property
    def receptive_field(self) -> int: ...
    def frames(self, samples: int) -> int: ...
    def log_probs(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        normalized: bool = False,
    ) -> list[np.ndarray]: ...


def missing_of_a_model(value: object) -> list[str]:
    """Names of `CTCModel` that a value does not offer; none, and it may stand for a model.

    ``isinstance`` with a protocol would not do: from Python 3.12 on it does not see what a wrapper
    passes on by ``__getattr__``.
    """
    names = [n for kind in (OnGrid, CTCModel) for n in vars(kind) if not n.startswith("_")]
    return [name for name in names if not hasattr(value, name)]


class SpeechModel:
    """A loaded CTC model and what belongs to it; made by `ptlab.load_model`.

    Attributes
    ----------
    name : str
    model : torch.nn.Module
        The Hugging Face module, in eval mode.
    feature_extractor, tokenizer
        The Hugging Face objects that came with it; no tokenizer (None) without a CTC head.
    folder : Path or None
        Where the files lie, for a local model.
    vocabulary : tuple of str
        Tokens by id, as the model's own file spells them (some are upper case). Empty for an
        encoder without a CTC head, which has hidden states to offer but no text.
    blank : int
        Id of the CTC blank.
    word_delimiter : str
        The token that stands for a space.
    sampling_rate : int
        In Hz.
    runtime : str
        ``"torch"``, as opposed to `ptlab.OnnxModel`.
    road : Road or None
        Why it is run so, if ``load_model(..., runtime="auto")`` chose.

    Examples
    --------
    >>> import ptlab
    >>> model = ptlab.load_model("mini", device="cpu")
    >>> model.vocabulary[model.blank], model.word_delimiter, model.sampling_rate
    ('<pad>', '|', 16000)
    """

    def __init__(
        self,
        name: str,
        model: Any,
        feature_extractor: Any,
        tokenizer: Any,
        folder: str | Path | None = None,
    ):
        self.name, self.model = name, model.eval()
        self.feature_extractor, self.tokenizer = feature_extractor, tokenizer
        self.folder = Path(folder) if folder else None
        by_id = {i: token for token, i in tokenizer.get_vocab().items()} if tokenizer else {}
        self.vocabulary: tuple[str, ...] = tuple(
            by_id.get(i, MISSING_TOKEN) for i in range(model.config.vocab_size if tokenizer else 0)
        )
        pad = model.config.pad_token_id  # the blank of the loss, whatever the tokenizer says
        self.blank = int(tokenizer.pad_token_id if pad is None else pad or 0)
        self.word_delimiter: str = getattr(tokenizer, "word_delimiter_token", None) or "|"
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self.runtime = "torch"
        self.road: Road | None = None

    def __repr__(self) -> str:
        millions = self.num_parameters / 1e6
        return (
            f"SpeechModel({self.name!r}, {self.model.config.model_type}, {millions:.1f} M "
            f"parameters, {self.device}, {str(self.dtype).removeprefix('torch.')})"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in; `log_probs` gives float32 all the same."""
        return self.model.dtype

    @cached_property
    def processor(self) -> Any:
        """Feature extractor and tokenizer as one Hugging Face object."""
        self.require_head()
        from transformers import Wav2Vec2BertProcessor, Wav2Vec2Processor

        kind = Wav2Vec2BertProcessor if self._takes_features else Wav2Vec2Processor
        return kind(feature_extractor=self.feature_extractor, tokenizer=self.tokenizer)

    def require_head(self) -> None:
        """Raise `ModelError` if this is an encoder without a CTC head."""
        if not self.vocabulary:
            raise ModelError(
                f"{self.name!r} is {type(self.model).__name__}, an encoder without a CTC head: it "
                "hears but cannot spell. Choose a checkpoint that was fine-tuned for speech "
                "recognition, or fine-tune this one."
            )

    @property
    def num_parameters(self) -> int:
        """Numbers that were learned, all layers together."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def hidden_size(self) -> int:
        """Width of a frame's representation: 1024 for XLSR-53, 768 for base models."""
        return self.model.config.hidden_size

    @property
    def num_layers(self) -> int:
        """Transformer layers."""
        return self.model.config.num_hidden_layers

    @property
    def normalizes(self) -> bool:
        """Whether waveforms are brought to zero mean and unit variance before the model."""
        return not self._takes_features and bool(self.feature_extractor.do_normalize)

    @property
    def _takes_features(self) -> bool:
        return self.model.main_input_name == "input_features"

    @cached_property
    def hop(self) -> int:
        """Samples from one frame to the next: the product of the strides."""
        return self.encoder_hop * self._adapter_stride

    @cached_property
    def encoder_hop(self) -> int:
        """Samples from one frame of the encoder to the next, before an adapter merges frames."""
        if self._takes_features:
            return round(FBANK_HOP_S * self.sampling_rate) * self.feature_extractor.stride
        return math.prod(self.model.config.conv_stride)

    @cached_property
    def _adapter_stride(self) -> int:
        """Frames of the feature encoder that an adapter on top merges into one."""
        config = self.model.config
        if not getattr(config, "add_adapter", False):
            return 1
        return config.adapter_stride**config.num_adapter_layers

    @cached_property
    def receptive_field(self) -> int:
        """Samples that one frame of the feature encoder sees (context of later layers aside)."""
        if self._takes_features:
            return round((FBANK_WINDOW_S - FBANK_HOP_S) * self.sampling_rate) + self.encoder_hop
        config, field, step = self.model.config, 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            field, step = field + (kernel - 1) * step, step * stride
        return field

    @cached_property
    def pads_exactly(self) -> bool:
        """Whether a padded clip gives the log-probs that it would give alone.

        Group norm in the feature encoder takes its statistics over the padding too; the stacked
        positional convolutions of data2vec, a batch norm before them in HuBERT, and the
        convolutions of an adapter mix it in.
        """
        config = self.model.config
        mixes = config.model_type == "data2vec-audio" or self._adapter_stride > 1
        if mixes or getattr(config, "conv_pos_batch_norm", False):
            return False
        return getattr(config, "feat_extract_norm", "layer") == "layer"

    def frames(self, samples: int) -> int:
        """Frames that the model gives for so many samples; 0 below the receptive field.

        Examples
        --------
        >>> import ptlab
        >>> model = ptlab.load_model("mini", device="cpu")
        >>> [model.frames(n) for n in (399, 400, 719, 720, 16_000)]
        [0, 1, 1, 2, 49]
        """
        encoder_frames = frame_count(samples, self.receptive_field, self.encoder_hop)
        return -(-encoder_frames // self._adapter_stride)

    def log_probs(
        self,
        waveforms: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        normalized: bool = False,
    ) -> list[np.ndarray]:
        """Log-probabilities of the tokens, one matrix a waveform.

        Waveforms are normalised over their own samples, padded, masked, and the result is cut to
        the valid frames: it does not depend on what else is in the batch. Models whose batches
        are not exact (see `pads_exactly`) are run one by one.

        Parameters
        ----------
        waveforms : sequence of ndarray (samples,)
            Mono float audio at ``sampling_rate``, as `ptlab.load_audio` gives it.
        batch_size : int, optional
            Most waveforms that are run at once. By default as many as make 80 s with padding.
        normalized : bool
            Whether they are normalised already, as a stream does over all that it has heard.

        Returns
        -------
        list of ndarray (frames, vocab), float32
            No rows for a waveform shorter than the receptive field.

        Raises
        ------
        ModelError
            If an array is not one-dimensional or holds NaN or infinite values, if
            ``batch_size`` is below one, or if the model has no CTC head.

        Examples
        --------
        >>> import ptlab
        >>> model = ptlab.load_model("mini", device="cpu")
        >>> [m.shape for m in model.log_probs([np.zeros(16_000), np.zeros(100)])]
        [(49, 46), (0, 46)]
        """
        self.require_head()
        return log_probs_in_batches(
            self, waveforms, batch_size, lambda arrays: self._run(arrays, normalized)
        )

    def _run(self, arrays: list[np.ndarray], normalized: bool) -> list[np.ndarray]:
        import torch

        from ptlab._speech.cpu_products import cpu_products

        with torch.inference_mode(), cpu_products():
            logits = self.model(**self._inputs(arrays, normalized)).logits
            log_probs = logits.float().log_softmax(-1).cpu().numpy()
        return [m[: self.frames(len(a))].copy() for m, a in zip(log_probs, arrays, strict=True)]

    def _inputs(
        self, arrays: list[np.ndarray], normalized: bool = False
    ) -> dict[str, torch.Tensor]:
        if self._takes_features:
            return self._feature_inputs(arrays)
        import torch

        if self.normalizes and not normalized:
            arrays = [normalize(a) for a in arrays]
        waves, mask = padded(arrays)
        inputs = {"input_values": torch.from_numpy(waves).to(self.device, self.dtype)}
        if len(arrays) > 1:  # alone there is no padding to hide
            inputs["attention_mask"] = torch.from_numpy(mask).to(self.device)
        return inputs

    def _feature_inputs(self, arrays: list[np.ndarray]) -> dict[str, torch.Tensor]:
        batch = self.feature_extractor(
            arrays, sampling_rate=self.sampling_rate, return_tensors="pt", padding=True
        )
        return {
            "input_features": batch["input_features"].to(self.device, self.dtype),
            "attention_mask": batch["attention_mask"].to(self.device),
        }


def log_probs_in_batches(
    model: Any,
    waveforms: Sequence[np.ndarray],
    batch_size: int | None,
    run: Callable[[list[np.ndarray]], list[np.ndarray]],
) -> list[np.ndarray]:
    """What ``run`` makes of the waveforms, a batch at a time, in their order; for any runtime.

    Raises
    ------
    ModelError
        As `SpeechModel.log_probs`.
    """
    if batch_size is not None and batch_size < 1:
        raise ModelError(f"batch_size={batch_size}; expected 1 or more, or None.")
    arrays = [_checked(w) for w in waveforms]
    results = [np.zeros((0, len(model.vocabulary)), np.float32) for _ in arrays]
    for chosen in batches(model, [len(a) for a in arrays], batch_size):
        for i, matrix in zip(chosen, run([arrays[i] for i in chosen]), strict=True):
            results[i] = matrix
    return results


def batches(model: Any, lengths: list[int], batch_size: int | None) -> Iterator[list[int]]:
    """Indices of waveforms to run together, alike in length so that little is padded."""
    heard = [i for i, n in enumerate(lengths) if model.frames(n)]
    most_samples = BATCH_SECONDS * model.sampling_rate if batch_size is None else math.inf
    most = (batch_size or math.inf) if model.pads_exactly else 1
    for batch in plan_minibatches([lengths[i] for i in heard], most_samples, most):
        yield [heard[i] for i in batch]


def padded(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms, or features (frames, numbers), with zeros behind the short ones; and the mask.

    Examples
    --------
    >>> waves, mask = padded([np.ones(3, np.float32), np.ones(1, np.float32)])
    >>> mask.tolist(), waves.dtype.name
    ([[1, 1, 1], [1, 0, 0]], 'float32')
    """
    shape = (len(arrays), max(map(len, arrays)))
    waves = np.zeros((*shape, *arrays[0].shape[1:]), np.float32)
    mask = np.zeros(shape, np.int64)
    for i, array in enumerate(arrays):
        waves[i, : len(array)], mask[i, : len(array)] = array, 1
    return waves, mask


def digest_of_model(model: Any) -> str:
    """Hash of weights, configuration and vocabulary; the name alone if there are no such things.

    Examples
    --------
    >>> import ptlab
    >>> len(digest_of_model(ptlab.load_model("mini", device="cpu")))
    32
    """
    if hasattr(model, "digest"):  # a model that is one file
        return model.digest
    module: Any = getattr(model, "model", None)
    if not hasattr(module, "state_dict"):
        return model.name
    import torch

    config = {k: v for k, v in module.config.to_dict().items() if k not in _NOT_OF_THE_MODEL}
    about = [config, model.vocabulary, model.blank, model.word_delimiter, model.sampling_rate]
    about.append(model.feature_extractor.to_dict())
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode("utf-8"))
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _checked(waveform: np.ndarray) -> np.ndarray:
    array = np.asarray(waveform, dtype=np.float32)
    if array.ndim != 1:
        raise ModelError(
            f"A waveform of shape {array.shape}; expected a list of arrays (samples,): one alone "
            "is log_probs([waveform]). ptlab.load_audio makes mono audio at the right rate."
        )
    if not np.isfinite(array).all():
        raise ModelError(
            "The waveform holds NaN or infinite values, which a model turns into no text at all. "
            "Mend the recording; ptlab.load_audio says where such audio comes from."
        )
    return array
