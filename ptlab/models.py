"""From a name, a folder or a Hub id to a speech model that gives log-probabilities.

The rest of ptlab asks of a model only what `SpeechModel` offers, so that other runtimes can
take its place.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptlab.audio import normalize
from ptlab.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["MODELS", "ModelSpec", "SpeechModel", "default_model", "load_model"]

DEFAULT_MODEL = "mini"
_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class ModelSpec:
    """A model that ptlab knows by a short name.

    Attributes
    ----------
    source : str
        Folder inside the package, or Hub id.
    revision : str or None
        The commit on the Hub that ptlab was written for.
    """

    name: str
    source: str
    revision: str | None
    parameters: str
    licence: str
    description: str


MODELS: dict[str, ModelSpec] = {
    "mini": ModelSpec(
        "mini",
        str(_ASSETS / "mini"),
        None,
        "7 M",
        "Apache-2.0",
        "ships with ptlab, trained on synthetic Portuguese; runs offline on a laptop",
    ),
    "xlsr-53-pt": ModelSpec(
        "xlsr-53-pt",
        "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese",
        "main",
        "315 M",
        "Apache-2.0",
        "XLSR-53 fine-tuned on Common Voice 6 Portuguese; 1.26 GB from the Hugging Face Hub",
    ),
}


def default_model() -> str:
    """Name of the model that is used when none is given: ``$PTLAB_MODEL``, else ``mini``.

    Examples
    --------
    >>> import os
    >>> _ = os.environ.pop("PTLAB_MODEL", None)
    >>> default_model()
    'mini'
    """
    return os.environ.get("PTLAB_MODEL") or DEFAULT_MODEL


def load_model(
    name_or_path: str | os.PathLike | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
) -> SpeechModel:
    """Load a CTC speech model.

    Parameters
    ----------
    name_or_path
        ``"mini"``, ``"xlsr-53-pt"``, a folder, or a Hub id. Default: `default_model`.
    device
        ``"auto"`` (CUDA, then MPS, then CPU) or what torch accepts.
    dtype
        ``"auto"`` (float16 on CUDA, else float32), ``"float32"``, ``"float16"``, ``"bfloat16"``.
    revision
        Commit, tag or branch on the Hub, for a Hub id.

    Raises
    ------
    ModelError
        If there is no such model, it has no CTC head, the Hub does not answer, or this machine
        cannot compute in ``dtype``.

    Examples
    --------
    >>> model = load_model("mini", device="cpu")
    >>> model.vocabulary[:8]
    ('<pad>', '<s>', '</s>', '<unk>', '|', "'", '-', 'a')
    >>> model.frames(16_000)
    49
    """
    name = str(name_or_path or default_model())
    source, pinned = _locate(name)
    device_ = _device(device)
    dtype_ = _dtype(dtype, device_)
    module, processor = _read(name, source, revision or pinned)
    module = module.to(device=device_, dtype=dtype_).eval()
    return SpeechModel(name, module, processor, source if Path(source).is_dir() else None)


class SpeechModel:
    """A loaded CTC model: waveforms in, log-probabilities out.

    Attributes
    ----------
    name : str
    model : torch.nn.Module
        The Hugging Face module, in eval mode.
    processor
        Feature extractor and tokenizer.
    folder : Path or None
        Where the files lie, for a local model.
    vocabulary : tuple of str
        Tokens by id; ``blank`` is the id of the CTC blank.
    hop, receptive_field : int
        Samples between two frames, and seen by one frame, computed from the config.
    """

    word_delimiter: str

    def __init__(self, name: str, model: Any, processor: Any, folder: str | None = None):
        self.name, self.model, self.processor = name, model, processor
        self.folder = Path(folder) if folder else None
        self.feature_extractor, self.tokenizer = processor.feature_extractor, processor.tokenizer
        self.vocabulary = _vocabulary(self.tokenizer, model.config.vocab_size)
        self.blank = int(model.config.pad_token_id)
        self.word_delimiter = self.tokenizer.word_delimiter_token
        self.sampling_rate = int(self.feature_extractor.sampling_rate)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        return (
            f"SpeechModel({self.name!r}, {self.model.config.model_type}, {millions:.1f} M "
            f"parameters, {self.device}, {self.dtype})"
        )

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def hidden_size(self) -> int:
        """Width of a frame's representation: 1024 for XLSR-53, 768 for base models."""
        return self.model.config.hidden_size

    @property
    def num_layers(self) -> int:
        return self.model.config.num_hidden_layers

    @cached_property
    def hop(self) -> int:
        """Samples from one frame to the next: the product of the strides."""
        if self._takes_features:
            return 2 * int(0.010 * self.sampling_rate)  # two 10 ms filter-bank frames a vector
        return math.prod(self.model.config.conv_stride)

    @cached_property
    def receptive_field(self) -> int:
        """Samples that one frame of the feature encoder sees."""
        if self._takes_features:
            return int(0.035 * self.sampling_rate)
        config, field, step = self.model.config, 1, 1
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            field, step = field + (kernel - 1) * step, step * stride
        return field

    @cached_property
    def pads_exactly(self) -> bool:
        """Whether a padded clip gives the log-probs it would give alone.

        Group norm in the feature encoder takes its statistics over the padding too.
        """
        return getattr(self.model.config, "feat_extract_norm", "layer") == "layer"

    @property
    def _takes_features(self) -> bool:
        return self.model.main_input_name != "input_values"

    def frames(self, samples: int) -> int:
        """Frames that the model gives for so many samples; 0 below the receptive field.

        Examples
        --------
        >>> model = load_model("mini", device="cpu")
        >>> [model.frames(n) for n in (399, 400, 719, 720)]
        [0, 1, 1, 2]
        """
        return max(0, (samples - self.receptive_field) // self.hop + 1)

    def log_probs(
        self, waveforms: Sequence[np.ndarray], *, batch_size: int = 8
    ) -> list[np.ndarray]:
        """Log-probabilities of the tokens, one matrix a waveform.

        Normalised over the valid samples, padded, masked, and cut to the valid frames; the result
        does not depend on what else is in the batch (models whose batches are not exact are run
        one by one).

        Parameters
        ----------
        waveforms : sequence of ndarray (samples,)
            Mono float audio at ``sampling_rate``, as `ptlab.load_audio` gives it.
        batch_size : int
            Waveforms that are run at once.

        Returns
        -------
        list of ndarray (frames, vocab), float32
            No rows for a waveform shorter than the receptive field.

        Raises
        ------
        ModelError
            If an array is not one-dimensional or holds NaN or infinite values.
        """
        arrays = [self._checked(w) for w in waveforms]
        results = [np.zeros((0, len(self.vocabulary)), np.float32) for _ in arrays]
        long_enough = [i for i, a in enumerate(arrays) if self.frames(len(a))]
        order = sorted(long_enough, key=lambda i: len(arrays[i]))
        size = batch_size if self.pads_exactly else 1
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            for i, matrix in zip(chosen, self._run([arrays[i] for i in chosen]), strict=True):
                results[i] = matrix
        return results

    def _checked(self, waveform: np.ndarray) -> np.ndarray:
        array = np.asarray(waveform, dtype=np.float32)
        if array.ndim != 1:
            raise ModelError(
                f"A waveform of shape {array.shape}; expected (samples,). "
                "Use ptlab.load_audio to get mono audio at the right rate."
            )
        if not np.isfinite(array).all():
            raise ModelError("The waveform holds NaN or infinite values; load it with load_audio.")
        return array

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        import torch

        inputs, frames = self._inputs(arrays)
        with torch.inference_mode():
            logits = self.model(**inputs).logits.float().log_softmax(-1).cpu().numpy()
        return [matrix[:n] for matrix, n in zip(logits, frames, strict=True)]

    def _inputs(self, arrays: list[np.ndarray]) -> tuple[dict[str, torch.Tensor], list[int]]:
        import torch

        if self._takes_features:
            batch = self.feature_extractor(
                arrays, sampling_rate=self.sampling_rate, return_tensors="pt", padding=True
            )
            frames = batch["attention_mask"].sum(-1).tolist()
            values = {k: v.to(self.device) for k, v in batch.items()}
            values["input_features"] = values["input_features"].to(self.dtype)
            return values, frames
        if self.feature_extractor.do_normalize:
            arrays = [normalize(a) for a in arrays]
        longest = max(map(len, arrays))
        waves = torch.zeros(len(arrays), longest)
        mask = torch.zeros(len(arrays), longest, dtype=torch.long)
        for i, array in enumerate(arrays):
            waves[i, : len(array)] = torch.from_numpy(array)
            mask[i, : len(array)] = 1
        values = {"input_values": waves.to(self.device, self.dtype)}
        if self.pads_exactly:
            values["attention_mask"] = mask.to(self.device)
        return values, [self.frames(len(a)) for a in arrays]


def _locate(name: str) -> tuple[str, str | None]:
    """Folder or Hub id of a model, and the pinned revision."""
    if name in MODELS:
        spec = MODELS[name]
        if name == "mini" and not (Path(spec.source) / "config.json").is_file():
            raise ModelError(
                "The weights of 'mini' are missing from ptlab/assets: this installation is "
                "incomplete. Install ptlab again, or clone the repository."
            )
        return spec.source, spec.revision
    if Path(name).is_dir():
        return name, None
    if "/" in name and not name.startswith((".", "/", "~")) and name.count("/") == 1:
        return name, None
    raise ModelError(
        f"No model {name!r}. Known names: {', '.join(MODELS)}; or give a folder that holds "
        "config.json, or a Hub id such as 'owner/model'."
    )


def _read(name: str, source: str, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForCTC, AutoProcessor
    from transformers.utils import logging as hf_logging

    where = {"revision": revision} if revision and not Path(source).is_dir() else {}
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        config = AutoConfig.from_pretrained(source, **where)
        _require_ctc_head(name, config)
        processor = AutoProcessor.from_pretrained(source, **where)
        model = AutoModelForCTC.from_pretrained(source, use_safetensors=True, **where)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(_why(name, source, error)) from error
    finally:
        hf_logging.set_verbosity(verbosity)
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "feature_extractor"):
        raise ModelError(
            f"{name!r} has no {'tokenizer' if not hasattr(processor, 'tokenizer') else 'feature'}"
            " files next to its weights; save its processor into the same folder."
        )
    return model, processor


def _require_ctc_head(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING

    architectures = config.architectures or []
    if type(config) not in MODEL_FOR_CTC_MAPPING:
        raise ModelError(
            f"{name!r} is a {config.model_type!r} model, which has no CTC form. ptlab needs a CTC "
            "model: wav2vec2, HuBERT, WavLM, data2vec-audio or wav2vec2-bert."
        )
    if architectures and not any(a.endswith("ForCTC") for a in architectures):
        raise ModelError(
            f"{name!r} is {architectures[0]}, an encoder without a CTC head: it cannot spell. "
            "Choose a checkpoint that was fine-tuned for speech recognition, or fine-tune this one."
        )


def _why(name: str, source: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(source).is_dir():
        return (
            f"Cannot load {name!r} from its folder: {reason} The folder must hold config.json, "
            "model.safetensors, preprocessor_config.json and vocab.json."
        )
    return (
        f"Cannot get {source!r} from the Hugging Face Hub: {reason} Likely causes: no network, a "
        "misspelt id, no safetensors weights, or a gated model. 'mini' works without a network."
    )


def _vocabulary(tokenizer: Any, size: int) -> tuple[str, ...]:
    by_id = {i: token for token, i in tokenizer.get_vocab().items()}
    return tuple(by_id.get(i, "<unk>") for i in range(size))


def _device(device: str) -> str:
    import torch

    if device != "auto":
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ModelError("No CUDA device here; use device='auto' or 'cpu'.")
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _dtype(dtype: str, device: str) -> torch.dtype:
    import torch

    choices = {
        "auto": torch.float16 if device.startswith("cuda") else torch.float32,
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }
    if dtype not in choices:
        raise ModelError(f"dtype {dtype!r}; choose one of {', '.join(choices)}.")
    if dtype == "bfloat16" and device == "cpu" and not _cpu_has_bfloat16():
        raise ModelError(
            "This CPU computes bfloat16 in software, slower than float32; use dtype='float32'."
        )
    return choices[dtype]


def _cpu_has_bfloat16() -> bool:
    import torch

    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(probe() or amx())


def read_calibration(folder: Path | None) -> dict[str, Any] | None:
    """Contents of ``calibration.json`` beside a local model's weights, if there is one."""
    path = folder / "calibration.json" if folder else None
    return json.loads(path.read_text("utf-8")) if path and path.is_file() else None
