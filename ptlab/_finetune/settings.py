"""How a model is fine-tuned: every choice with its default, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ptlab.errors import PtlabError

__all__ = ["FinetuneSettings"]

FREEZES = ("features", "encoder", "nothing")
OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_AT_LEAST = {  # smallest value of each number; None where there may be none
    "epochs": 0.01, "steps": 1, "batch_size": 1, "accumulation": 1, "warmup": 0, "weight_decay": 0,
    "max_s": 0.1, "evaluate_every": 1, "patience": 1, "lora": 0, "workers": 0, "seed": 0,
    "spec_augment": 0,
}  # fmt: skip


@dataclass(frozen=True)
class FinetuneSettings:
    """Choices of a fine-tuning run; give them to `ptlab.finetune` by name.

    Attributes
    ----------
    epochs : float
        Passes over the training clips.
    steps : int or None
        Updates of the weights, in place of ``epochs``. From a head of random numbers the first few
        hundred give nothing but blanks (a WER of 100 %): fewer than that teach nothing.
    batch_size : int
        Clips that are computed at once: what memory allows.
    accumulation : int
        Batches whose gradients make one update, so that an update is made from
        ``batch_size * accumulation`` clips. It is the same update as of one large batch.
    learning_rate, warmup, weight_decay : float
        Of the optimizer: the rate rises over the share ``warmup`` of the updates, then falls
        linearly to 0. 3e-4 is what XLSR-53 is usually fine-tuned with; a few steps on little data
        want less.
    optimizer : {"adamw", "muon"}
        "muon" moves the matrices of the encoder by Muon and the rest by AdamW: fewer updates from a
        new head or a pre-trained encoder.
    freeze : {"features", "encoder", "nothing"}
        What stays as it is: the convolutions that listen to the waveform, all but the head, or
        nothing.
    vocabulary : {"model", "transcripts"} or sequence of str
        Keep the model's tokens (the course's 46 if it has none), make them from the training texts,
        or give them. Tokens that the model knows keep what it learned of them.
    spec_augment : float
        Share of the frames that are masked, at most, in spans of 10 frames (200 ms).
    augment : bool
        Whether clips are changed in speed, loudness and noise, anew in every epoch.
    max_s : float
        Longest clip in seconds; memory grows with the longest one.
    precision : {"auto", "fp32", "bf16", "fp16"}
        What most of the arithmetic is done in; "auto" is the fastest that this machine has in
        hardware. Weights are float32 in any case.
    checkpointing : bool
        Compute activations again for the gradient and do not store them: less memory, more time.
    lora : int
        Rank of low-rank adapters that are trained in place of the Transformer's weights (needs
        peft); 0 trains the weights themselves.
    evaluate_every : int or None
        Updates between two evaluations, each with a checkpoint; None is once an epoch.
    patience : int or None
        Stop after so many evaluations without a lower error rate; None never stops early.
    best_by : {"wer", "cer"}
        The error rate of the validation clips that the weights kept at the end have the lowest of,
        and that ``patience`` looks at. From a new head on few updates take "cer": near 100 % the
        WER is noise.
    device : {"auto", "cpu", "cuda", "mps"}
    workers : int
        Processes that read and augment clips; 0 does it in this one.
    seed : int
        Of a new head, the order of the clips, augmentation, masks and dropout.

    Examples
    --------
    >>> FinetuneSettings(epochs=3, batch_size=4, accumulation=2).update_size
    8
    >>> FinetuneSettings(batch_size=0)
    Traceback (most recent call last):
    ptlab.errors.PtlabError: batch_size=0; it must be a number, 1 or more.
    """

    epochs: float = 10.0
    steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    learning_rate: float = 3e-4
    warmup: float = 0.1
    weight_decay: float = 0.005
    optimizer: str = "adamw"
    freeze: str = "features"
    vocabulary: str | tuple[str, ...] = "model"
    spec_augment: float = 0.05
    augment: bool = True
    max_s: float = 20.0
    precision: str = "auto"
    checkpointing: bool = False
    lora: int = 0
    evaluate_every: int | None = None
    patience: int | None = None
    best_by: str = "wer"
    device: str = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            optional = name in ("steps", "evaluate_every", "patience")
            if not (optional and value is None) and not _is_number(value, least):
                raise PtlabError(f"{name}={value!r}; it must be a number, {least} or more.")
        if not _is_number(self.learning_rate, 0) or not 0 < self.learning_rate < 1:
            raise PtlabError(f"learning_rate={self.learning_rate!r}; try 1e-4 to 1e-3.")
        for name in ("warmup", "spec_augment"):
            if getattr(self, name) >= 1:
                raise PtlabError(f"{name}={getattr(self, name)}; it is a share, from 0 to below 1.")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("freeze", self.freeze, FREEZES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("best_by", self.best_by, ("wer", "cer"))
        _one_of("device", self.device, ("auto", "cpu", "cuda", "mps"))
        if isinstance(self.vocabulary, str):
            _one_of("vocabulary", self.vocabulary, ("model", "transcripts", "a list of tokens"))
        else:
            object.__setattr__(self, "vocabulary", tuple(self.vocabulary))

    @classmethod
    def from_names(cls, named: dict[str, Any]) -> FinetuneSettings:
        """Settings from keyword arguments; `PtlabError` names those that there are."""
        known = [field.name for field in fields(cls)]
        unknown = [name for name in named if name not in known]
        if unknown:
            raise PtlabError(f"No setting {', '.join(unknown)}; there are {', '.join(known)}.")
        return cls(**named)

    @property
    def update_size(self) -> int:
        """Clips that an update of the weights is made from."""
        return self.batch_size * self.accumulation

    def to_dict(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise PtlabError(f"{name}={value!r}; choose one of {', '.join(choices)}.")
