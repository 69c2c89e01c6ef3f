"""From a name, a folder or a Hub id to a `SpeechModel`, or to an `OnnxModel` of an exported one.

>>> import ptlab
>>> model = ptlab.load_model("mini", device="cpu")
>>> model
SpeechModel('mini', wav2vec2, 7.0 M parameters, cpu, float32)
>>> sound = ptlab.load_corpus("test").audio(0)
>>> log_probs = model.log_probs([sound.waveform])[0]
>>> log_probs.shape == (model.frames(len(sound)), len(model.vocabulary))
True
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ptlab._export.graph_sessions import RUNTIMES
from ptlab._export.onnx_graph import as_graph
from ptlab._speech.devices import find_device, find_dtype
from ptlab._speech.roads import Road, road_of_graph, road_of_weights, this_equipment
from ptlab._speech.speech_model import CTCModel, SpeechModel, missing_of_a_model
from ptlab.errors import ModelError
from ptlab.onnx_model import GRAPH, OnnxModel, load_onnx

if TYPE_CHECKING:
    import torch

__all__ = ["MODELS", "ModelSpec", "SpeechModel", "default_model", "list_models", "load_model"]

logger = logging.getLogger("ptlab")

AnyModel = TypeVar("AnyModel", SpeechModel, OnnxModel)
DEFAULT_MODEL = "mini"
SUPPORTED = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "wav2vec2-bert")
_ASSETS = Path(__file__).parent / "assets"
_BROKEN = (  # what transformers raises over files that are missing, cut short or of another kind
    OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, pickle.UnpicklingError,
)  # fmt: skip
_NEEDED = {  # what a folder must hold -> any of these files
    "config.json": ("config.json",),
    "the vocabulary": ("vocab.json", "tokenizer.json"),
    "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
}


@dataclass(frozen=True)
class ModelSpec:
    """A model that ptlab knows by a short name.

    Attributes
    ----------
    source : str
        Folder inside the package, or Hub id.
    revision : str or None
        The commit on the Hub that ptlab was written for.
    safetensors : bool
        False if that commit holds its weights in PyTorch's format only.

    Examples
    --------
    >>> MODELS["xlsr-53-pt"].parameters, MODELS["xlsr-53-pt"].licence
    ('315 M', 'Apache-2.0')
    """

    name: str
    source: str
    revision: str | None
    parameters: str
    licence: str
    description: str
    safetensors: bool = True


MODELS: dict[str, ModelSpec] = {
    "mini": ModelSpec(
        "mini",
        str(_ASSETS / "mini"),
        None,
        "7 M",
        "Apache-2.0",
        "ships with ptlab, trained on synthetic Portuguese; runs offline on a laptop",
    ),
    "mini-xlsr-53": ModelSpec(
        "mini-xlsr-53",
        str(_ASSETS / "mini-xlsr-53"),
        None,
        "7 M",
        "Apache-2.0",
        "ships with ptlab, pre-trained on synthetic speech of 53 languages: no head, to fine-tune",
    ),
    "xlsr-53-pt": ModelSpec(
        "xlsr-53-pt",
        "jonatasgrosman/wav2vec2-large-xlsr-53-portuguese",
        # "update config", 2022-02-11: the last commit that touched a file that is read here. The
        # repository's main branch has no safetensors (the file list of this commit and the tags of
        # the model's page, read November 2026), so that the house rule "safetensors only" would
        # shut the course's own model out. Its pickle is read by torch's weights-only unpickler,
        # which builds tensors and runs no code, and the commit fixes which file that is.
        "cbfa6284561363d14fbd89ce7b4bf262a0239bc8",
        "315 M",
        "Apache-2.0",
        "XLSR-53 fine-tuned on Common Voice 6 Portuguese; 1.26 GB from the Hugging Face Hub",
        safetensors=False,
    ),
}
"""Models with a short name, by that name."""


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


def list_models() -> tuple[ModelSpec, ...]:
    """The models that have a short name.

    Examples
    --------
    >>> [spec.name for spec in list_models()]
    ['mini', 'mini-xlsr-53', 'xlsr-53-pt']
    """
    return tuple(MODELS.values())


def load_model(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    runtime: str | None = None,
) -> SpeechModel | OnnxModel:
    """Load a speech model: wav2vec2, HuBERT, WavLM, data2vec-audio or wav2vec2-bert.

    Weights are read from safetensors, code from a repository is never run, and a folder is loaded
    without any network. An encoder without a CTC head (a pre-trained model such as XLSR-53) is
    loaded too, with an empty ``vocabulary``: for hidden states and for fine-tuning. What
    `ptlab.export_onnx` has written is loaded by ONNX Runtime, or by OpenVINO if that is asked for
    (see `ptlab.load_onnx`).

    Parameters
    ----------
    name_or_path
        ``"mini"``, ``"mini-xlsr-53"``, ``"xlsr-53-pt"``, a folder, a ``.onnx`` file, or a Hub id.
        Default: `default_model`.
    device : str or torch.device
        ``"auto"`` (CUDA, then MPS, then CPU) or what torch accepts.
    dtype : str or torch.dtype
        ``"auto"`` (float16 on CUDA, else float32), ``"float32"``, ``"float16"``, ``"bfloat16"``
        (on a CPU only where it computes bfloat16 itself: AVX512-BF16 or AMX).
    revision
        Commit, tag or branch on the Hub, instead of the pinned one.
    runtime : {"torch", "onnxruntime", "openvino", "auto"}, optional
        What runs it; by default torch, and ONNX Runtime for what is a graph already. The other two
        are given a graph of torch's weights, made while it is loaded (with the packages onnx and
        openvino: ``pip install "ptlab[openvino]"``); it gives text, but no hidden states.
        ``"auto"`` is the fastest way that this machine has, bfloat16 included unless ``dtype`` says
        otherwise; the model's ``road`` says which, and why.
        OpenVINO needs more memory when lengths differ: see `ptlab.load_onnx`.

    Raises
    ------
    ModelError
        If there is no such model, files are missing, the Hub does not answer, or this machine
        cannot compute on ``device``, in ``dtype`` or by ``runtime``.

    Examples
    --------
    >>> model = load_model("mini", device="cpu")
    >>> model.vocabulary[:8]
    ('<pad>', '<s>', '</s>', '<unk>', '|', "'", '-', 'a')
    >>> model.hop, model.receptive_field
    (320, 400)
    """
    name = os.fspath(name_or_path) if name_or_path else default_model()
    dtype = str(dtype).removeprefix("torch.")
    if runtime not in (None, "torch", "auto", *RUNTIMES):
        raise ModelError(
            f"runtime={runtime!r}; choose one of torch, {', '.join(RUNTIMES)} and auto."
        )
    if _is_onnx(name):
        return _load_graph(name, str(device), dtype, runtime)
    if runtime in (None, "torch"):
        return _load_weights(name, device, dtype, revision)
    if runtime == "auto":
        return _load_by_fastest(name, find_device(device), dtype, revision)
    whole = _load_weights(name, "cpu", "float32", revision)
    return as_graph(whole, runtime, str(device), dtype)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Let Python look for no garbage, which is a tenth of the time that torch takes to import.

    What modules are made of stays, and was searched again and again while more came.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@_without_collection()
def _load_weights(
    name: str, device: str | torch.device, dtype: str, revision: str | None
) -> SpeechModel:
    spec = _locate(name)
    device = find_device(device)
    kind = find_dtype(dtype, device)
    try:
        with _quiet():
            model, features, tokenizer = _read(spec, revision or spec.revision or "main", kind)
    except (*_BROKEN, _safetensors_error()) as error:
        raise ModelError(_why(spec, error)) from error
    folder = spec.source if Path(spec.source).is_dir() else None
    return SpeechModel(name, model.to(device), features, tokenizer, folder)


def _load_graph(name: str, device: str, dtype: str, runtime: str | None) -> OnnxModel:
    if runtime == "torch":
        raise ModelError(
            f"{name!r} is an ONNX graph, which torch does not run: leave runtime out, or load the "
            "model that it was made from."
        )
    if runtime != "auto":
        return load_onnx(name, device=device, runtime=runtime or "onnxruntime", dtype=dtype)
    model = load_onnx(name, device=device)
    road = road_of_graph(model.precision, this_equipment(model.device), dtype)
    if (road.runtime, road.dtype) != ("onnxruntime", "auto"):
        model = load_onnx(name, device=device, runtime=road.runtime, dtype=road.dtype)
    return _told(model, road)


def _load_by_fastest(
    name: str, device: str, dtype: str, revision: str | None
) -> SpeechModel | OnnxModel:
    road = road_of_weights(this_equipment(device), dtype)
    if road.runtime == "torch":
        return _told(_load_weights(name, device, road.dtype, revision), road)
    whole = _load_weights(name, "cpu", "float32", revision)
    try:
        return _told(as_graph(whole, road.runtime, "cpu", road.dtype), road)
    except ModelError as error:
        return _told(whole, Road("torch", "float32", f"it cannot become a graph. {error}"))


def _told(model: AnyModel, road: Road) -> AnyModel:
    model.road = road
    logger.info("%s runs by %s", model.name, road)
    return model


def as_model(
    model: str | os.PathLike[str] | CTCModel | None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> CTCModel:
    """A model as it is, or what `load_model` loads.

    Raises
    ------
    ModelError
        As `load_model`, and if it is neither a name, a path nor a model.
    """
    if model is None or isinstance(model, str | os.PathLike):
        return load_model(model, device=device, dtype=dtype)
    if missing := missing_of_a_model(model):
        raise ModelError(
            f"{type(model).__name__} is no model: it has no {', '.join(missing)}. Give a name, a "
            "folder or what ptlab.load_model loads."
        )
    return model


def load_speech_model(
    model: str | os.PathLike[str] | CTCModel | None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> SpeechModel:
    """A model whose layers can be read and trained: the given one, or what `load_model` loads.

    Raises
    ------
    ModelError
        As `load_model`, and if it is an ONNX graph.
    """
    model = as_model(model, device=device, dtype=dtype)
    if isinstance(model, SpeechModel):
        return model
    if isinstance(model, OnnxModel):
        raise model.has_no_layers()
    raise ModelError(
        f"{model.name!r} is a {type(model).__name__}, whose layers are not known here; give a "
        "name, a folder or what ptlab.load_model loads."
    )


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError  # not a subclass of any of the usual ones

    return SafetensorError


def _is_onnx(name: str) -> bool:
    """Whether a name is that of an ONNX file, or of a folder with one and no other weights."""
    path = Path(name).expanduser()
    if name in MODELS or not path.is_dir():
        return name not in MODELS and path.suffix == ".onnx"
    return (path / GRAPH).is_file() and not any(path.glob("*.safetensors"))


def _locate(name: str) -> ModelSpec:
    if name in MODELS:
        spec = MODELS[name]
        if name == DEFAULT_MODEL and not (Path(spec.source) / "config.json").is_file():
            raise ModelError(
                "The weights of 'mini' are missing from ptlab/assets: this installation is "
                "incomplete. Install ptlab again, or clone the repository."
            )
        return spec
    if Path(name).expanduser().is_dir():
        return _check_folder(ModelSpec(name, str(Path(name).expanduser()), None, "", "", ""))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelSpec(name, name, None, "", "", "")
    raise ModelError(
        f"No model {name!r}. Known names: {', '.join(MODELS)}; or give a folder that exists and "
        "holds config.json, or a Hub id such as 'owner/model'."
    )


def _check_folder(spec: ModelSpec) -> ModelSpec:
    folder = Path(spec.source)
    for what, files in _NEEDED.items():
        if what == "the vocabulary" and _is_encoder(folder):
            continue
        if not any((folder / f).is_file() for f in files):
            raise ModelError(
                f"The folder {spec.name!r} lacks {what} ({' or '.join(files)}). Save model, "
                "tokenizer and feature extractor into it with save_pretrained."
            )
    if any(folder.glob("*.safetensors")):
        return spec
    advice = "Save the model into it with save_pretrained."
    if any(folder.glob("*.bin")):
        advice = (
            "ptlab does not read pickled weights; if you trust them, write safetensors once: "
            "AutoModelForCTC.from_pretrained(folder).save_pretrained(folder)."
        )
    raise ModelError(f"The folder {spec.name!r} has no model.safetensors. {advice}")


def _is_encoder(folder: Path) -> bool:
    """Whether the configuration in a folder names a model without a CTC head."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        return _lacks_head(config.get("architectures"))
    except (OSError, ValueError, AttributeError):
        return False  # transformers says what is wrong with it


def _lacks_head(architectures: list[str] | None) -> bool:
    if not architectures:
        return False
    return not any(a.endswith("ForCTC") for a in architectures)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and notes of transformers, and its background conversion."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    convert = os.environ.get("DISABLE_SAFETENSORS_CONVERSION")
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
        os.environ.pop("DISABLE_SAFETENSORS_CONVERSION")
        if convert is not None:
            os.environ["DISABLE_SAFETENSORS_CONVERSION"] = convert


def _read(spec: ModelSpec, revision: str, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Model, feature extractor and tokenizer (None for an encoder without a head).

    The last two are read one by one, as `AutoProcessor` would ask for the language model and its
    decoder where a repository (such as that of xlsr-53-pt) names them.
    """
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCTC

    where = {"revision": revision, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(spec.source, **where)
    _require_supported(spec.name, config)
    encoder = _lacks_head(config.architectures)
    features = AutoFeatureExtractor.from_pretrained(spec.source, **where)
    tokenizer = None if encoder else _tokenizer(spec.source, config, where)
    model, found = (AutoModel if encoder else AutoModelForCTC).from_pretrained(
        spec.source, config=config, dtype=dtype, use_safetensors=spec.safetensors,
        output_loading_info=True, **where,
    )  # fmt: skip
    missing = sorted(k for k in found["missing_keys"] if "masked_spec_embed" not in k)
    if missing:
        raise ModelError(
            f"The weights of {spec.name!r} lack {missing[0]} and {len(missing) - 1} more, which "
            "would be random numbers. Choose a checkpoint that was fine-tuned with a CTC head."
        )
    return model, features, tokenizer


def _tokenizer(source: str, config: Any, where: dict[str, Any]) -> Any:
    from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

    try:
        return AutoTokenizer.from_pretrained(source, config=config, **where)
    except ValueError:  # no class is named, and transformers has none for this kind, as for WavLM
        return Wav2Vec2CTCTokenizer.from_pretrained(source, **where)


def _require_supported(name: str, config: Any) -> None:
    if config.model_type not in SUPPORTED:
        raise ModelError(
            f"{name!r} is a {config.model_type!r} model. ptlab runs CTC models of the kinds "
            f"{', '.join(SUPPORTED)}; choose one of these."
        )


def _why(spec: ModelSpec, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
    if Path(spec.source).is_dir():
        return (
            f"Cannot load {spec.name!r} from its folder: {reason}. The folder must hold the "
            "config.json, model.safetensors, preprocessor_config.json and vocab.json of one model."
        )
    return (
        f"Cannot get {spec.source!r} from the Hugging Face Hub: {reason}. Likely causes: no "
        "network (HF_HUB_OFFLINE uses only what is in the cache), a misspelt id or folder, weights "
        "that are not safetensors, or a gated model. The model 'mini' works without a network."
    )


def read_calibration(folder: Path | None) -> dict[str, Any] | None:
    """Contents of ``calibration.json`` beside a local model's weights, if there is one."""
    if folder is None or not (path := folder / "calibration.json").is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path.name} in {folder.name!r} is not JSON: {error}.") from error
