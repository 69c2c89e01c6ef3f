"""A model that can be trained for CTC: from a finished one, an encoder without head, or a config.

Whatever it is made from, that stays as it is: training works on a copy, in float32.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ptlab.errors import ModelError, TextError
from ptlab.models import MODELS, ModelSpec, SpeechModel, load_model
from ptlab.text import VOCABULARY, normalize_text

__all__ = ["build_vocabulary", "trainable_model"]

TRAINABLE = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
_MASKING = 0.05  # a model without any masking in its config lacks the vector that masks are made of
_MARKS = ("<pad>", "<s>", "</s>", "<unk>", "|")


def build_vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """Tokens that can write given texts: the five special ones, then letters by code point.

    Texts are taken as `ptlab.normalize_text` takes them: lower case, numbers spelled out,
    apostrophes and hyphens only where they join letters, other punctuation left out.

    Parameters
    ----------
    texts : iterable of str

    Raises
    ------
    TextError
        If there is no letter in them.

    Examples
    --------
    >>> build_vocabulary(["Guarda-chuva!", "El Niño"])[4:]
    ('|', '-', 'a', 'c', 'd', 'e', 'g', 'h', 'i', 'l', 'n', 'o', 'r', 'u', 'v', 'ñ')
    """
    texts = list(texts)
    plain = unicodedata.normalize("NFC", " ".join(texts).lower())
    letters = {c for c in plain if unicodedata.category(c)[0] in "LM"}
    wide = [*VOCABULARY, *letters]  # numbers may need letters that the texts do not have
    used = {c for text in texts for c in normalize_text(text, wide)} - {" "}
    if not used:
        raise TextError(f"The {len(texts)} texts hold no letter to make a vocabulary of.")
    return (*_MARKS, *sorted(used))


def trainable_model(
    source: Any, vocabulary: str | Sequence[str] = "model", texts: Iterable[str] = ()
) -> SpeechModel:
    """A float32 copy of a model on the CPU, with a CTC head for a vocabulary.

    Parameters
    ----------
    source : str, path, SpeechModel or PretrainedConfig
        What `ptlab.load_model` takes, the same without a CTC head (a pre-trained encoder), a loaded
        model, or a configuration of transformers, which gives random weights.
    vocabulary : {"model", "transcripts"} or sequence of str
        The model's own tokens (the course's 46 if it has none), tokens made from ``texts``, or
        given ones.
    texts : iterable of str

    Raises
    ------
    ModelError
        If there is no such model, or it is of a kind that cannot be trained here.

    Examples
    --------
    >>> model = trainable_model("mini", "transcripts", ["Olá, mundo"])
    >>> model.vocabulary[4:], model.model.lm_head.weight.shape[0]
    (('|', 'd', 'l', 'm', 'n', 'o', 'u', 'á'), 12)
    """
    model = _copied(source)
    _check_kind(model)
    if vocabulary != "model":
        tokens = build_vocabulary(texts) if vocabulary == "transcripts" else tuple(vocabulary)
        model = _with_vocabulary(model, tokens)
    config = model.model.config
    config.ctc_loss_reduction, config.ctc_zero_infinity = "mean", True
    config.pad_token_id = model.blank
    _give_mask_vector(model.model)
    return model


def _copied(source: Any) -> SpeechModel:
    if isinstance(source, SpeechModel):
        module = copy.deepcopy(source.model).float().to("cpu")
        return SpeechModel(source.name, module, source.feature_extractor, source.tokenizer)
    if hasattr(source, "model_type"):
        return _from_config(source)
    name = os.fspath(source)
    spec = MODELS.get(name) or ModelSpec(name, os.path.expanduser(name), None, "", "", "")
    return _from_encoder(spec) if _is_encoder(spec) else load_model(
        name, device="cpu", dtype="float32"
    )  # fmt: skip


def _from_config(config: Any) -> SpeechModel:
    from transformers import AutoModelForCTC

    config = copy.deepcopy(config)
    config.vocab_size, config.pad_token_id = len(VOCABULARY), 0
    config.dtype = None  # that of the weights it came with, float16 for mini
    _check_type(config, "the configuration")
    module = AutoModelForCTC.from_config(config).float()
    return SpeechModel(
        f"random {config.model_type}", module, _feature_extractor(), _tokenizer(VOCABULARY)
    )


def _is_encoder(spec: ModelSpec) -> bool:
    """Whether what is there has no CTC head; False where nothing can be read, too."""
    from transformers import AutoConfig

    try:
        made = AutoConfig.from_pretrained(spec.source, revision=spec.revision or "main")
    except (OSError, ValueError, KeyError):
        return False  # load_model says what is wrong
    return bool(made.architectures) and not any(a.endswith("ForCTC") for a in made.architectures)


def _from_encoder(spec: ModelSpec) -> SpeechModel:
    """Weights of an encoder, and a new head for the course's tokens."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForCTC

    where = {"revision": spec.revision or "main", "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(
            spec.source, vocab_size=len(VOCABULARY), pad_token_id=0, **where
        )
        _check_type(config, repr(spec.name))
        config.mask_time_prob = config.mask_time_prob or _MASKING
        module, found = AutoModelForCTC.from_pretrained(
            spec.source, config=config, dtype=torch.float32, use_safetensors=spec.safetensors,
            output_loading_info=True, **where,
        )  # fmt: skip
        features = AutoFeatureExtractor.from_pretrained(spec.source, **where)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"Cannot load the encoder {spec.name!r}: {reason} Needed are config.json, "
            "preprocessor_config.json and safetensors weights of one model."
        ) from error
    missing = sorted(k for k in found["missing_keys"] if not k.startswith(("lm_head", "classifier"))
                     and "masked_spec_embed" not in k)  # fmt: skip
    if missing:
        raise ModelError(
            f"The weights of {spec.name!r} lack {missing[0]} and {len(missing) - 1} more, which "
            "would be random numbers; give a complete checkpoint, or a config for random weights."
        )
    return SpeechModel(spec.name, module, features, _tokenizer(VOCABULARY))


def _check_type(config: Any, what: str) -> None:
    if config.model_type not in TRAINABLE:
        raise ModelError(
            f"{what} is of the kind {config.model_type!r}; ptlab fine-tunes models that take "
            f"waveforms: {', '.join(TRAINABLE)}."
        )


def _check_kind(model: SpeechModel) -> None:
    _check_type(model.model.config, repr(model.name))
    if getattr(model.model.config, "add_adapter", False):
        raise ModelError(
            f"{model.name!r} has a convolutional adapter on top, which ptlab does not fine-tune."
        )


def _with_vocabulary(model: SpeechModel, tokens: tuple[str, ...]) -> SpeechModel:
    """The same model with a head for other tokens; known ones keep their rows."""
    import torch

    missing = [t for t in ("<pad>", "<unk>", "|") if t not in tokens]
    if missing or len(set(tokens)) < len(tokens):
        raise ModelError(
            f"A vocabulary of {len(tokens)} tokens without {', '.join(missing) or 'unique names'}; "
            "list <pad>, <unk>, | and each letter once (ptlab.VOCABULARY is one)."
        )
    old = model.model.lm_head
    rows = _known_rows(model, tokens)
    head = torch.nn.Linear(old.in_features, len(tokens))
    torch.nn.init.normal_(head.weight, std=model.model.config.initializer_range)
    torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        for new, row in rows.items():
            head.weight[new], head.bias[new] = old.weight[row], old.bias[row]
    model.model.lm_head = head
    model.model.config.vocab_size = len(tokens)
    model.model.config.pad_token_id = tokens.index("<pad>")
    return SpeechModel(model.name, model.model, model.feature_extractor, _tokenizer(tokens))


def _known_rows(model: SpeechModel, tokens: Sequence[str]) -> dict[int, int]:
    """New id -> old id; the other case of a letter is the same sound, the blank is the blank."""
    old = {token: i for i, token in enumerate(model.vocabulary)}
    old |= {"<pad>": model.blank, "|": old.get(model.word_delimiter, old.get("|"))}
    found = ((i, old.get(t, old.get(t.swapcase()))) for i, t in enumerate(tokens))
    return {new: row for new, row in found if row is not None}


def _tokenizer(tokens: Sequence[str]) -> Any:
    from transformers import Wav2Vec2CTCTokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.json"
        ids = {token: i for i, token in enumerate(tokens)}
        path.write_text(json.dumps(ids, ensure_ascii=False), "utf-8")
        marks = {
            f"{name}_token": token if token in ids else None
            for name, token in (("bos", "<s>"), ("eos", "</s>"))
        }
        return Wav2Vec2CTCTokenizer(str(path), word_delimiter_token="|", **marks)


def _feature_extractor() -> Any:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)


def _give_mask_vector(module: Any) -> None:
    """Models that were made without SpecAugment have no vector to put in place of hidden frames."""
    import torch

    encoder = module.base_model
    if not hasattr(encoder, "masked_spec_embed"):
        vector = torch.empty(module.config.hidden_size).uniform_()
        encoder.masked_spec_embed = torch.nn.Parameter(vector)
