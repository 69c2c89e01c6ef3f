"""From the best weights of a run to a folder that loads, and what they are worth."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ptlab._finetune.card import model_card
from ptlab._finetune.folder import kept_checkpoint, step_of
from ptlab._finetune.history import history_rows
from ptlab._finetune.result import FinetuneResult
from ptlab._finetune.settings import FinetuneSettings
from ptlab._finetune.trainer import CTCTrainer
from ptlab._finetune.weights import merged
from ptlab.comparison import hypotheses
from ptlab.data import Corpus
from ptlab.errors import PtlabError
from ptlab.finetune_audit import DataAudit
from ptlab.metrics import bootstrap
from ptlab.models import SpeechModel, load_speech_model
from ptlab.transcribe import Transcriber

__all__ = ["keep", "without_bars"]


def keep(
    trainer: CTCTrainer,
    learner: SpeechModel,
    validation: Corpus,
    audit: DataAudit,
    folder: Path,
    settings: FinetuneSettings,
    seconds: float,
    since: Path | None,
) -> FinetuneResult:
    """Save the model, read it back, measure it as a user would, and write its card.

    Parameters
    ----------
    trainer : CTCTrainer
        Which has trained, and holds the best weights.
    learner : SpeechModel
        What belongs to its model.
    validation : Corpus
    audit : DataAudit
    folder : Path
    settings : FinetuneSettings
    seconds : float
        Of training.
    since : Path or None
        The checkpoint that training went on from.

    Raises
    ------
    PtlabError
        If the folder cannot be written; the checkpoints are kept.
    """
    state = trainer.state
    try:
        save(merged(trainer.model), learner, folder)
        model = load_speech_model(folder, device=settings.device, dtype="float32")
        written = hypotheses(Transcriber(model), audit.select(validation, "validation"))
        references = audit.kept_of("validation").label.tolist()
        wer, cer = (bootstrap(references, written, metric=metric) for metric in ("wer", "cer"))
        result = FinetuneResult(
            model=model,
            folder=folder,
            base=learner.name,
            steps=state.global_step,
            best_step=state.best_global_step or state.global_step,
            wer=wer,
            cer=cer,
            history=tuple(history_rows(state.log_history)),
            audit=audit,
            settings=settings.to_dict(),
            seconds=seconds,
            resumed_from=step_of(since) if since else None,
            stopped_early=state.global_step < trainer.args.max_steps,
            versions=_versions(),
        )
        (folder / "README.md").write_text(model_card(result), "utf-8")
    except (OSError, SafetensorError) as error:
        raise PtlabError(
            f"The model could not be written to {folder}: {error}. Free some disk space and run "
            f"the same line again; nothing is lost. {kept_checkpoint(trainer.args.output_dir)}"
        ) from error
    return result


def save(module: Any, learner: SpeechModel, folder: Path) -> None:
    """Write what `ptlab.load_model` and transformers load."""
    from transformers import Wav2Vec2Processor

    features, tokenizer = learner.feature_extractor, learner.tokenizer
    processor = Wav2Vec2Processor(feature_extractor=features, tokenizer=tokenizer)
    with without_bars():
        module.save_pretrained(folder)
    processor.save_pretrained(folder)
    features.save_pretrained(folder)


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence the bars that transformers shows over every file that it writes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _versions() -> dict[str, str]:
    names = ("ptlab", "torch", "transformers", "accelerate")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
