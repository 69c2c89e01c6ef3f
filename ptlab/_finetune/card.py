"""The model card of a fine-tuned model, made from the facts of its run."""

from __future__ import annotations

from ptlab._finetune.result import FinetuneResult

__all__ = ["model_card"]

_TEXT = """---
library_name: transformers
pipeline_tag: automatic-speech-recognition
tags: [{kind}, ctc, ptlab]
---

# {name}

A `{architecture}` with {millions:.1f} million parameters and {tokens} tokens, fine-tuned from
`{base}` with `ptlab.finetune`. Its licence is bound by those of `{base}` and of the recordings.

## Figures

Greedy decoding, no language model, on the validation split ({validation_clips} clips,
{validation_minutes:.1f} min), with {level:.0%} bootstrap intervals over clips. This split chose
the checkpoint, so that other data will give higher rates.

| | rate |
|---|---|
| WER | {wer} |
| CER | {cer} |

## Data

```
{audit}
```

Training: {clips:,} clips, {hours:.3g} hours. Texts were brought to the letters and the
case of the vocabulary by `ptlab.normalize_text`: numbers spelled out, no punctuation.

## Training

{steps:,} updates of {update_size} clips each ({batch_size} at once, {accumulation} accumulated),
{minutes:.1f} minutes on {device} in {precision}{early}. The weights are those after update
{best_step:,}.

| setting | value |
|---|---|
{settings}

With {versions}.

## Use

```python
import ptlab
print(ptlab.transcribe("recording.wav", model="{folder}").text)
```

or with transformers alone: `AutoModelForCTC` and `Wav2Vec2Processor`, each `.from_pretrained`.

## Limits

Known only for speech like that of its data. It writes letters: no digits, no punctuation.
"""


def model_card(result: FinetuneResult) -> str:
    """Text of the ``README.md`` beside the weights.

    Parameters
    ----------
    result : FinetuneResult
    """
    settings, module = result.settings, result.model.model
    validation = result.audit.kept_of("validation")
    shown = ("learning_rate", "warmup", "weight_decay", "freeze", "spec_augment", "augment", "lora",
             "max_s", "seed")  # fmt: skip
    facts = {
        "kind": module.config.model_type,
        "base": result.base,
        "name": result.folder.name,
        "folder": result.folder.name,
        "architecture": type(module).__name__,
        "millions": result.model.num_parameters / 1e6,
        "tokens": len(result.model.vocabulary),
        "validation_clips": len(validation),
        "validation_minutes": validation.duration_s.sum() / 60,
        "level": result.wer.level,
        "wer": result.wer,
        "cer": result.cer,
        "audit": result.audit,
        "clips": len(result.audit.kept_of("train")),
        "hours": result.audit.hours("train"),
        "steps": result.steps,
        "best_step": result.best_step,
        "early": ", stopped early" if result.stopped_early else "",
        "update_size": settings["batch_size"] * settings["accumulation"],
        "minutes": result.seconds / 60,
        "settings": "\n".join(f"| {name} | {settings[name]} |" for name in shown),
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }
    return _TEXT.format(**{**settings, **facts})
