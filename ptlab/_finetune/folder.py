"""The folder of a run: whose it is, whether it has room, and what it holds to go on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptlab._finetune.settings import FinetuneSettings
from ptlab._speech.speech_model import digest_of_model
from ptlab.data import Corpus
from ptlab.errors import PtlabError
from ptlab.models import SpeechModel

__all__ = [
    "checkpoints",
    "claim",
    "fingerprint",
    "has_ended",
    "kept_checkpoint",
    "last_checkpoint",
    "read_state",
    "step_of",
]

_MARK = "run.txt"
_NO_MATTER = ("device", "workers")  # settings that may change when a run goes on


def checkpoints(folder: Path) -> Path:
    """Where the checkpoints of a run lie while it goes on."""
    return folder / "checkpoints"


def fingerprint(
    model: SpeechModel, corpora: Mapping[str, Corpus], settings: FinetuneSettings
) -> str:
    """What a run is known by: the weights it begins with, clips, texts, tokens and settings."""
    chosen = {name: v for name, v in settings.to_dict().items() if name not in _NO_MATTER}
    clips = {
        split: [corpus.frame.id.astype(str).tolist(), corpus.frame.text.astype(str).tolist()]
        for split, corpus in corpora.items()
    }
    facts = [chosen, clips, digest_of_model(model)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def claim(folder: Path, run: str, needed: int) -> None:
    """Make the folder of a run, or make sure that it holds the beginning of this run.

    Parameters
    ----------
    folder : Path
    run : str
        Its `fingerprint`.
    needed : int
        Bytes that it will write.

    Raises
    ------
    PtlabError
        If the folder holds anything else, cannot be written, or has no room.
    """
    mark = checkpoints(folder) / _MARK
    if not mark.is_file() and folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise PtlabError(f"{folder} holds other files; give a new folder as output.")
    if mark.is_file() and mark.read_text("utf-8") != run:
        raise PtlabError(
            f"{folder} holds the beginning of another run (other clips, model or settings); give "
            "another folder as output, or delete this one."
        )
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(run, "utf-8")
    except OSError as error:
        raise PtlabError(f"{folder} cannot be written: {error.strerror}.") from error
    for checkpoint in mark.parent.glob("checkpoint-*"):
        if not _is_whole(checkpoint):  # a kill cut it short; the Trainer would count it
            shutil.rmtree(checkpoint, ignore_errors=True)
    free = shutil.disk_usage(folder).free
    if free < needed and not last_checkpoint(mark.parent):
        raise PtlabError(
            f"The disk of {folder} has {free / 1e9:.1f} GB free; checkpoints and model need "
            f"{needed / 1e9:.1f} GB. Free some, or give a folder on another disk."
        )


def last_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint that was written to its end: the Trainer's state is its last file."""
    return max(filter(_is_whole, Path(folder).glob("checkpoint-*")), key=step_of, default=None)


def kept_checkpoint(folder: str | Path) -> str:
    """A sentence on what there is to go on from."""
    found = last_checkpoint(folder)
    if found is None:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is kept, {found.name} in {found.parent}."


def _is_whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_text("utf-8")))
    except (OSError, ValueError):
        return False


def step_of(checkpoint: Path) -> int:
    """Updates that were made before a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def read_state(checkpoint: Path) -> Any:
    """The Trainer's state, as it was when a checkpoint was written."""
    from transformers import TrainerState

    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def has_ended(state: Any, steps: int) -> bool:
    """Whether nothing was left to train when a state was written, or patience was at its end."""
    control = state.stateful_callbacks.get("TrainerControl", {})
    return state.global_step >= steps or control.get("args", {}).get("should_training_stop", False)
