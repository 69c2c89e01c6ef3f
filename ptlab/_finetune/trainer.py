"""The one road on the Trainer of transformers, with what it gets wrong for CTC made right.

What is different here, each with its reason beside it:

* gradients are accumulated by clip, so that n small batches are one large one;
* predictions are cut to the frames of their clip, and padding is never spelled;
* clips come in an order that a run which was killed and goes on sees again;
* a loss that is not finite stops the run before weights are spoiled further, or saved;
* a checkpoint that could not be written whole is removed, and what was there is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, Trainer

from ptlab._finetune.data import ByLength
from ptlab._finetune.folder import kept_checkpoint
from ptlab._finetune.optimizer import MuonAdamW
from ptlab.collate import IGNORED, MASKS
from ptlab.ctc import collapse, tokens_to_text
from ptlab.errors import PtlabError
from ptlab.metrics import error_rates
from ptlab.minibatches import trim_heap

__all__ = ["CTCTrainer", "Patience", "masking"]


@contextmanager
def masking(model: Any, masks: torch.Tensor | None) -> Iterator[None]:
    """While it lasts, the encoder of a CTC model hides these frames, (clips, frames); None: none.

    The encoders of transformers take masks. Not all models around them pass masks on: some
    swallow them silently, and would train without SpecAugment (wav2vec2's until 5.15).
    """
    if masks is None:
        yield
        return
    parts = (m for m in model.modules() if isinstance(m, PreTrainedModel))
    encoder = next(part for part in parts if part.base_model is part)

    handle = encoder.register_forward_pre_hook(
        lambda _, inputs, named: (inputs, {**named, MASKS: masks}), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


class CTCTrainer(Trainer):
    """`transformers.Trainer` for CTC models.

    Parameters
    ----------
    vocabulary : sequence of str
    blank : int
    muon : bool
        Whether `MuonAdamW` updates the weights, in place of AdamW.
    **options
        Of `transformers.Trainer`; its data sets are `Clips`.
    """

    def __init__(
        self, *, vocabulary: Sequence[str], blank: int, muon: bool = False, **options: Any
    ):
        super().__init__(compute_metrics=self.rates, **options)
        self.remove_callback(PrinterCallback)
        self.vocabulary, self.blank, self.muon = vocabulary, blank, muon
        # The model's forward takes any keyword, from which the Trainer concludes that it divides
        # its loss by the number of labels in all batches of an update. It does not: the loss and
        # the step would be as many times too large as there are batches (transformers #47688).
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW as the Trainer makes it, or Muon and AdamW."""
        if not self.muon:
            return super().create_optimizer(model)
        module = self.model if model is None else model
        self.optimizer = MuonAdamW(module, self.args.learning_rate, self.args.weight_decay)
        return self.optimizer

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one update, and how many clips they hold together."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return batches, sum(len(batch["labels"]) for batch in batches)

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """CTC loss per label, the mean over clips: every clip of an update counts the same.

        The Trainer divides by the number of batches, which is the mean over clips only if all
        batches hold as many; the last one of an epoch does not.
        """
        rest = {name: value for name, value in inputs.items() if name != MASKS}
        with masking(model, inputs.get(MASKS)):
            outputs = model(**rest)
        loss = outputs.loss
        if not bool(torch.isfinite(loss).all()):
            raise PtlabError(
                f"The loss is {loss.detach().mean():g} after {self.state.global_step} updates: "
                "lower the learning_rate, or give precision='fp32'. If it is so before the first, "
                f"the model is broken. {kept_checkpoint(self.args.output_dir)}"
            )
        if num_items_in_batch is not None:
            share = len(inputs["labels"]) / num_items_in_batch
            loss = loss * (share * self.current_gradient_accumulation_steps)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> Any:
        """Loss, the best token of every frame, and labels; -100 where a clip has ended.

        Tokens, not logits, are gathered: 46 times less memory. Frames of padding hold letters too
        and must not be read; and where the Trainer pads one batch to another's length with -100,
        the best token of such a row of logits would be number 0, whatever that spells.
        """
        loss, logits, labels = super().prediction_step(
            model, inputs, prediction_loss_only, ignore_keys
        )
        if logits is None:
            return loss, logits, labels
        tokens = logits.argmax(-1)
        samples = inputs["attention_mask"].sum(-1).to(tokens.device)
        frames = self.model._get_feat_extract_output_lengths(samples)
        over = torch.arange(tokens.shape[1], device=tokens.device) >= frames[:, None]
        return loss, tokens.masked_fill(over, IGNORED), labels

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As it is; memory that is free since then goes back to the system."""
        metrics = super().evaluate(*args, **kwargs)
        trim_heap()
        return metrics

    def rates(self, prediction: Any) -> dict[str, float | str]:
        """WER and CER of gathered tokens and labels, each padded with -100; one clip as text."""
        spelled = (collapse(path, self.blank) for path in _unpadded(prediction.predictions))
        hypotheses = [tokens_to_text(tokens, self.vocabulary) for tokens in spelled]
        labels = _unpadded(prediction.label_ids)
        references = [tokens_to_text(tokens, self.vocabulary) for tokens in labels]
        rates = error_rates(references, hypotheses)
        shown = len(labels) // 2  # the clip of middle length, the same in every evaluation
        example = {"reference": references[shown], "hypothesis": hypotheses[shown]}
        return {"wer": rates.wer, "cer": rates.cer, **example}

    def try_longest(self) -> None:
        """Forward and back with the longest clips: memory runs out now and not after hours."""
        size = self.args.per_device_train_batch_size
        longest = _longest_first(self.train_dataset.lengths)[:size]
        batch = self.data_collator([self.train_dataset[number] for number in longest])
        batch = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.args.mixed_precision)
        self.model.train()
        with torch.autocast(self.args.device.type, kind, enabled=kind is not None):
            loss = self.compute_loss(self.model, batch)
        loss.backward()
        self.model.zero_grad()

    def load_best(self, state: Any) -> None:
        """Take the best weights of a run that has ended, without training on."""
        self.state = state
        if state.best_model_checkpoint:
            self._load_best_model()

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        size = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return ByLength(self.train_dataset, size)

    def _get_eval_sampler(self, eval_dataset: Any) -> list[int]:
        return _longest_first(eval_dataset.lengths)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As it is, but nothing half written is left behind when the disk is full."""
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            folder = Path(self.args.output_dir)
            shutil.rmtree(folder / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            raise PtlabError(
                f"The checkpoint after {self.state.global_step} updates could not be written: "
                f"{error}. Free some disk space and run the same line again. "
                f"{kept_checkpoint(folder)}"
            ) from error


class Patience(EarlyStoppingCallback):
    """Early stopping that waits while a new head still gives nothing but blanks.

    On that plateau errors are at 100 % for hundreds of updates and then fall: patience that counts
    there would stop every run from a new head before it has begun.
    """

    def check_metric_value(self, args: Any, state: Any, control: Any, metric_value: float) -> None:
        if metric_value < 1 or (state.best_metric is not None and state.best_metric < 1):
            super().check_metric_value(args, state, control, metric_value)


def _longest_first(lengths: Sequence[float]) -> list[int]:
    return sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)


def _unpadded(rows: np.ndarray) -> list[list[int]]:
    return [[int(token) for token in row if token != IGNORED] for row in rows]
