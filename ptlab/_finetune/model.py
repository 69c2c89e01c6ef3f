"""A model that can be trained for CTC: from a finished one, an encoder without head, or a config.

Whatever it is made from, that stays as it is: training works on a copy, in float32.
"""

from __future__ import annotations

import copy
import json
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ptlab.errors import ModelError, TextError
from ptlab.models import SpeechModel, load_speech_model
from ptlab.text import VOCABULARY, normalize_text

__all__ = ["build_vocabulary", "trainable_model"]

TRAINABLE = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
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
    _check_type(model.model.config, model.name)
    if vocabulary != "model":
        tokens = build_vocabulary(texts) if vocabulary == "transcripts" else tuple(vocabulary)
        model = _with_vocabulary(model, tokens)
    config = model.model.config
    config.ctc_loss_reduction, config.ctc_zero_infinity = "mean", True
    config.pad_token_id = model.blank
    _give_mask_vector(model.model)
    return model


def _copied(source: Any) -> SpeechModel:
    if hasattr(source, "model_type"):
        return _with_head(f"random {source.model_type}", source, None, _feature_extractor())
    if isinstance(source, SpeechModel):
        model, module = source, copy.deepcopy(source.model).float().to("cpu")
    else:
        model = load_speech_model(source, device="cpu", dtype="float32")
        module = model.model
    if not model.vocabulary:
        return _with_head(model.name, module.config, module, model.feature_extractor)
    return SpeechModel(model.name, module, model.feature_extractor, model.tokenizer)


def _with_head(name: str, config: Any, encoder: Any, features: Any) -> SpeechModel:
    """A CTC model with a random head for the course's tokens, on an encoder or a random one."""
    from transformers import AutoModelForCTC

    _check_type(config, name)
    config = copy.deepcopy(config)
    config.vocab_size, config.pad_token_id = len(VOCABULARY), 0
    config.dtype = None  # that of the weights it came with, float16 for mini
    module = AutoModelForCTC.from_config(config).float()
    if encoder is not None:
        encoder.config = module.config
        setattr(module, module.base_model_prefix, encoder)
    return SpeechModel(name, module, features, _tokenizer(VOCABULARY))


def _check_type(config: Any, name: str) -> None:
    if config.model_type not in TRAINABLE:
        raise ModelError(
            f"{name!r} is of the kind {config.model_type!r}; ptlab fine-tunes models that take "
            f"waveforms: {', '.join(TRAINABLE)}."
        )
    if getattr(config, "add_adapter", False):
        raise ModelError(f"{name!r} has convolutions on top, which ptlab does not fine-tune.")


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
    old["<pad>"] = model.blank
    if model.word_delimiter in old:
        old["|"] = old[model.word_delimiter]
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
