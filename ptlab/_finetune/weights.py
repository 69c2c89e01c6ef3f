"""Which weights learn: frozen parts, low-rank adapters, and what is stored for the gradient."""

from __future__ import annotations

from typing import Any

from ptlab._finetune.settings import FinetuneSettings
from ptlab.errors import PtlabError

__all__ = ["bytes_to_store", "checkpoint_activations", "merged", "prepared"]

ADAPTED = ("q_proj", "v_proj")  # Hu et al. (2021), "LoRA": queries and values are enough
HEAD = "lm_head"


def prepared(module: Any, settings: FinetuneSettings) -> Any:
    """The module to train, its parts frozen or adapted as the settings say.

    Parameters
    ----------
    module : torch.nn.Module
        A CTC model of transformers. It is changed.
    settings : FinetuneSettings

    Raises
    ------
    PtlabError
        If low-rank adapters are wanted and peft is not installed.
    """
    module.config.mask_time_prob = settings.spec_augment  # the masks come with the batches
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    if settings.freeze == "encoder":
        module.freeze_base_model()
    if settings.freeze != "nothing" or settings.lora:
        # also where all is frozen: it stops keeping activations for a gradient that nobody needs
        module.freeze_feature_encoder()
    if settings.lora:
        module = _with_adapters(module, settings.lora)
    if settings.checkpointing:
        checkpoint_activations(module)
    return module


def checkpoint_activations(module: Any) -> None:
    """Have the transformer layers computed again for the gradient, in place of kept in memory.

    The numbers stay the same; an update takes longer. `finetune` does it for
    ``checkpointing=True``; this is for training loops of your own.

    Parameters
    ----------
    module : torch.nn.Module
        A model of transformers. It is changed.

    Examples
    --------
    >>> import ptlab
    >>> learner = ptlab.trainable_model("mini")
    >>> checkpoint_activations(learner.model)
    >>> learner.model.wav2vec2.encoder.layers[0].gradient_checkpointing
    True
    """
    # Of two names, transformers 5.15 has only the old one, and warns of it a little later.
    enable = getattr(module, "activation_checkpointing_enable", None)
    enable = enable or module.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # True gives no gradient behind frozen layers


def _with_adapters(module: Any, rank: int) -> Any:
    """Adapters beside queries and values, of which little is trained; the head is trained whole."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise PtlabError(
            "lora needs the package peft: pip install 'ptlab[lora]'. Without it, lora=0 trains "
            "the weights themselves."
        ) from error
    module.name_or_path = ""  # peft would look on the Hub for the config of what has a name
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(ADAPTED), modules_to_save=[HEAD]
    )
    return get_peft_model(module, config)


def merged(module: Any) -> Any:
    """A plain model of transformers, adapters added into its weights, ready to run."""
    module = module.merge_and_unload() if hasattr(module, "merge_and_unload") else module
    return module.eval()


def bytes_to_store(module: Any) -> int:
    """Disk space that a run needs: three checkpoints (the third is written before the first goes)
    of the saved weights and AdamW's two numbers for each that learns, and the model at the end.
    """
    total = sum(p.numel() for p in module.parameters())
    learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
    saved = learning if hasattr(module, "merge_and_unload") else total
    return 3 * (4 * saved + 8 * learning) + 4 * total
