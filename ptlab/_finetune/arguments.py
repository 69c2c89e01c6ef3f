"""What the Trainer of transformers is told, from `FinetuneSettings`."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from ptlab._finetune.settings import FinetuneSettings
from ptlab._speech.devices import cpu_has_bfloat16
from ptlab.errors import PtlabError

__all__ = ["find_precision", "training_arguments"]

LOGGED = 200  # losses in the history of a run, about


def find_precision(precision: str, device: str) -> str:
    """What "auto" is on this machine, the fastest that it has in hardware; others are checked.

    Raises
    ------
    PtlabError
        For a precision that the hardware does not have.

    Examples
    --------
    >>> find_precision("fp32", "cpu")
    'fp32'
    """
    if precision == "fp16" and device != "cuda":
        raise PtlabError("precision='fp16' trains on CUDA only; use 'auto', 'bf16' or 'fp32'.")
    if device == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bf16 = device == "cpu" and cpu_has_bfloat16()
    if precision == "bf16" and not has_bf16:
        raise PtlabError(f"This {device} has no bf16 in hardware; use precision='auto'.")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16 else "fp16" if device == "cuda" else "fp32"


def training_arguments(settings: FinetuneSettings, folder: Path, clips: int) -> TrainingArguments:
    """What the Trainer is told.

    Parameters
    ----------
    settings : FinetuneSettings
        With device and precision as they were found, not "auto".
    folder : Path
        For checkpoints.
    clips : int
        Of the training split.
    """
    batches = -(-clips // settings.batch_size)
    an_epoch = -(-batches // settings.accumulation)
    steps = settings.steps or max(1, round(settings.epochs * an_epoch))
    every = min(settings.evaluate_every or an_epoch, steps)
    arguments = TrainingArguments(
        output_dir=str(folder.resolve()),  # the best checkpoint is looked for by this name later
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        use_cpu=settings.device == "cpu",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,  # the best one and the last one
        load_best_model_at_end=True,
        metric_for_best_model=settings.best_by,
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,  # else patience starts anew after a kill
        logging_steps=max(1, steps // LOGGED),
        logging_nan_inf_filter=False,  # it would show an average in place of a NaN
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=settings.device == "cuda",
        seed=settings.seed,
        report_to="none",
        disable_tqdm=True,  # ptlab shows its own progress
    )
    if arguments.n_gpu > 1:  # several would each take batch_size clips: larger, fewer updates
        arguments._n_gpu = 1
    return arguments
