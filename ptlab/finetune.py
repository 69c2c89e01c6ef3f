"""Fine-tune a CTC model on recordings and texts of your own: `finetune`, in one call.

>>> import ptlab
>>> from tempfile import TemporaryDirectory
>>> train = ptlab.load_corpus("train").filter(speaker="pf_dora", domain="travel")
>>> validation = ptlab.load_corpus("dev").filter(speaker="pm_santa", domain="travel")
>>> with TemporaryDirectory() as folder:
...     result = ptlab.finetune(
...         "mini", train, validation, output=folder, steps=2, batch_size=2, progress=False
...     )
...     text = ptlab.transcribe(validation.audio(0), model=result.model).text
>>> isinstance(text, str)
True

The rooms it is made of, from the data upwards: `ptlab.finetune_audit` (what is in the data),
`ptlab.collate` (batches), and in ``ptlab._finetune`` ``data`` (clips), ``augment``, ``model``
(vocabulary and head), ``weights`` (what learns), ``optimizer``, ``folder`` (whose it is),
``arguments`` and ``trainer`` (the Trainer made right), ``history``, ``save``, ``result``, ``card``.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ptlab._finetune.arguments import find_precision, training_arguments
from ptlab._finetune.data import Clips, as_corpus, frames_needed
from ptlab._finetune.folder import (
    checkpoints,
    claim,
    fingerprint,
    has_ended,
    last_checkpoint,
    read_state,
)
from ptlab._finetune.model import trainable_model
from ptlab._finetune.progress import LiveProgress
from ptlab._finetune.result import FinetuneResult, read_result, write_result
from ptlab._finetune.save import keep, without_bars
from ptlab._finetune.settings import FinetuneSettings
from ptlab._finetune.trainer import CTCTrainer, Patience
from ptlab._finetune.weights import bytes_to_store, checkpoint_activations, prepared
from ptlab._speech.devices import find_device
from ptlab.collate import CTCCollator
from ptlab.data import Corpus
from ptlab.errors import PtlabError
from ptlab.finetune_audit import DataAudit, audit_data
from ptlab.minibatches import is_out_of_memory
from ptlab.models import SpeechModel
from ptlab.text import encode

__all__ = [
    "FinetuneResult",
    "FinetuneSettings",
    "checkpoint_activations",
    "finetune",
    "frames_needed",
    "trainable_model",
]

logger = logging.getLogger("ptlab")


def finetune(
    model: Any,
    train: Any,
    validation: Any,
    *,
    output: str | os.PathLike[str],
    progress: bool = True,
    **settings: Any,
) -> FinetuneResult:
    """Train a model on clips and their texts, and keep the weights that did best on others.

    What can be known to go wrong is looked for first: clips that cannot be used are dropped and
    told (`ptlab.audit_data`), disk space is counted, and the longest clips are tried. Run the same
    line again after a crash, and it goes on from the last checkpoint as if nothing had happened;
    run it again after its end, and it gives the result that is there.

    On a CPU the same call gives the same numbers on the same machine. On a GPU the gradient of the
    CTC loss is added up in no fixed order, so that two runs differ a little.

    Parameters
    ----------
    model : str, path, SpeechModel or PretrainedConfig
        What to begin with: a model with or without a CTC head, or a configuration of transformers
        for random weights. It is not changed.
    train, validation : Corpus, datasets.Dataset or path
        Clips with their texts. Speakers and sentences of one should not be in the other.
    output : path
        A new folder, for checkpoints and then for the model.
    progress : bool
        Show a bar, and in a notebook a figure.
    **settings
        See `FinetuneSettings`: epochs, steps, batch_size, accumulation, learning_rate, freeze,
        vocabulary, augment, precision, checkpointing, lora, patience, seed and more.

    Returns
    -------
    FinetuneResult

    Raises
    ------
    DataError
        If nothing is left of the clips.
    ModelError
        If the model cannot be loaded or trained.
    PtlabError
        If a setting is not possible, memory or disk are too small, the output folder holds
        something else, or the loss is not finite. The last good checkpoint is kept.

    Examples
    --------
    >>> import ptlab
    >>> train, validation = ptlab.load_corpus("train"), ptlab.load_corpus("dev")
    >>> result = finetune("mini", train, validation, output="runs/mine")  # doctest: +SKIP
    >>> ptlab.compare("mini", result.model, ptlab.load_corpus("test"))  # doctest: +SKIP
    """
    from transformers import set_seed

    chosen = FinetuneSettings.from_names(settings)
    device = find_device(chosen.device)
    used = replace(chosen, device=device, precision=find_precision(chosen.precision, device))
    folder = Path(output).expanduser()
    corpora = {
        "train": as_corpus(train, "train"),
        "validation": as_corpus(validation, "validation"),
    }
    set_seed(used.seed)  # a new head is random
    learner = trainable_model(model, used.vocabulary, _texts(corpora["train"]))
    run = fingerprint(learner, corpora, chosen)
    return read_result(folder, run, device) or _train(learner, corpora, folder, run, used, progress)


def _train(
    learner: SpeechModel,
    corpora: Mapping[str, Corpus],
    folder: Path,
    run: str,
    settings: FinetuneSettings,
    progress: bool,
) -> FinetuneResult:
    """From the first look at the data to the folder with the finished model."""
    audit = audit_data(corpora, learner, max_s=settings.max_s)
    audit.require_clips()
    if len(audit.dropped) > len(audit.kept):
        logger.warning("More clips are dropped than kept:\n%s", audit)
    module = prepared(learner.model, settings)
    claim(folder, run, bytes_to_store(module))
    live = LiveProgress(progress)
    trainer = _trainer(module, learner, corpora, audit, folder, settings, live)
    since = last_checkpoint(checkpoints(folder))
    start = time.perf_counter()
    try:
        with _memory_explained(settings), without_bars():
            _go(trainer, since)
    finally:
        live.close()
    seconds = time.perf_counter() - start
    result = keep(trainer, learner, corpora["validation"], audit, folder, settings, seconds, since)
    write_result(result, run)
    shutil.rmtree(checkpoints(folder), ignore_errors=True)
    return result


def _trainer(
    module: Any,
    learner: SpeechModel,
    corpora: Mapping[str, Corpus],
    audit: DataAudit,
    folder: Path,
    settings: FinetuneSettings,
    live: LiveProgress,
) -> CTCTrainer:
    clips = {split: _clips(corpora, audit, split, learner, settings) for split in corpora}
    patience = [Patience(settings.patience)] if settings.patience else []
    return CTCTrainer(
        vocabulary=learner.vocabulary,
        blank=learner.blank,
        muon=settings.optimizer == "muon",
        model=module,
        args=training_arguments(settings, checkpoints(folder), len(clips["train"])),
        data_collator=CTCCollator(
            learner.feature_extractor,
            learner.receptive_field,
            learner.hop,
            pad_to_multiple_of=learner.sampling_rate,  # to whole seconds
        ),
        train_dataset=clips["train"],
        eval_dataset=clips["validation"],
        callbacks=[live, *patience],
    )


def _clips(
    corpora: Mapping[str, Corpus],
    audit: DataAudit,
    split: str,
    learner: SpeechModel,
    settings: FinetuneSettings,
) -> Clips:
    training = split == "train"
    kept = audit.kept_of(split)
    return Clips(
        audit.select(corpora[split], split),
        [encode(label, learner.vocabulary) for label in kept.label],
        kept.duration_s,
        learner.receptive_field,
        learner.hop,
        learner.sampling_rate,
        augment=training and settings.augment,
        spec_augment=settings.spec_augment if training else None,
        seed=settings.seed,
    )


def _texts(corpus: Corpus) -> list[str]:
    return [text for text in corpus.frame.text if isinstance(text, str)]


def _go(trainer: CTCTrainer, since: Path | None) -> None:
    """Train to the end, from a checkpoint if there is one."""
    if since is not None:
        state = read_state(since)
        if has_ended(state, trainer.args.max_steps):  # and was killed while the model was saved
            trainer.load_best(state)
            return
    trainer.try_longest()
    trainer.train(resume_from_checkpoint=str(since) if since else None)


@contextmanager
def _memory_explained(settings: FinetuneSettings) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise PtlabError(
            f"Out of memory with {settings.batch_size} clips of up to {settings.max_s:g} s at "
            "once. Give a smaller batch_size and a larger accumulation (the updates stay the "
            "same), checkpointing=True, or a smaller max_s."
        ) from error
