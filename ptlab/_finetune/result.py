"""What came of a fine-tuning run, and the folder that it is kept in."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptlab.errors import PtlabError
from ptlab.finetune_audit import DataAudit
from ptlab.metrics import Interval
from ptlab.models import SpeechModel, load_speech_model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FinetuneResult", "read_result", "write_result"]

RESULT_FILE, AUDIT_FILE = "run.json", "audit.csv"


@dataclass(frozen=True, eq=False, repr=False)
class FinetuneResult:
    """A fine-tuned model and how it came about; made by `ptlab.finetune`.

    Attributes
    ----------
    model : SpeechModel
        With the weights of the best evaluation, read back from ``folder``.
    folder : Path
        What `ptlab.load_model` and transformers load; with a model card, ``README.md``.
    base : str
        Name of the model that it was made from.
    steps, best_step : int
        Updates in all, and those after which the WER was lowest.
    wer, cer : Interval
        Of the best weights on the validation split. It chose them, so take another split to say
        how good the model is: `ptlab.compare`.
    history : tuple of dict
        A row an update that was logged or evaluated: ``step``, ``epoch``, ``loss`` (mean since the
        row before), ``learning_rate``, ``grad_norm``, ``validation_loss``, ``wer``, ``cer``, and
        of one validation clip ``reference`` and ``hypothesis``.
    audit : DataAudit
        What was in the data, what was dropped, and why.
    settings : dict
        Every `FinetuneSettings`, and ``precision`` and ``device`` as they were found.
    seconds : float
        Of training, the part before a kill left out.
    resumed_from : int or None
        Updates that an earlier run, which did not end, had made.
    stopped_early : bool
    versions : dict
        Of Python and the libraries.
    """

    model: SpeechModel
    folder: Path
    base: str
    steps: int
    best_step: int
    wer: Interval
    cer: Interval
    history: tuple[dict[str, Any], ...]
    audit: DataAudit
    settings: dict[str, Any]
    seconds: float
    resumed_from: int | None
    stopped_early: bool
    versions: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """The history as a table; NaN where a row has no such value."""
        import pandas as pd

        return pd.DataFrame(list(self.history))

    def to_dict(self) -> dict[str, Any]:
        """All but model, folder and audit, as JSON can hold it."""
        names = set(self.__dataclass_fields__) - {"model", "folder", "audit"}
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name in names}
        intervals = {n: vars(v) for n, v in values.items() if isinstance(v, Interval)}
        return {**values, **intervals, "history": list(self.history)}

    def __str__(self) -> str:
        how = [f"{self.base} fine-tuned with {self.steps:,} updates in {self.seconds / 60:.1f} min"]
        if self.resumed_from:
            how.append(f"gone on from update {self.resumed_from:,}")
        if self.stopped_early:
            how.append("stopped early")
        return "\n".join([
            ", ".join(how),
            f"best after {self.best_step:,}: validation WER {self.wer}, CER {self.cer}",
            f"saved in {self.folder}",
            str(self.audit),
        ])  # fmt: skip

    def __repr__(self) -> str:
        return f"<FinetuneResult\n{self}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def write_result(result: FinetuneResult, run: str) -> None:
    """Keep a result beside its model; ``run`` says what it was made with, to know it again."""
    result.audit.frame.to_csv(result.folder / AUDIT_FILE, index=False)
    content = json.dumps({"run": run, **result.to_dict()}, ensure_ascii=False, indent=1)
    (result.folder / RESULT_FILE).write_text(content, "utf-8")


def read_result(folder: Path, run: str, device: str) -> FinetuneResult | None:
    """The result that a folder holds, or None.

    Raises
    ------
    PtlabError
        If it was made with other data, another model or other settings.
    """
    import pandas as pd

    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    values = json.loads(path.read_text("utf-8"))
    if values.pop("run") != run:
        raise PtlabError(
            f"{folder} holds the model of another run (other clips, model or settings); give "
            "another output folder, or delete this one."
        )
    texts = dict.fromkeys(("id", "text", "label", "speaker", "dropped", "detail"), str)
    table = pd.read_csv(folder / AUDIT_FILE, dtype=texts, keep_default_na=False)
    for name in ("wer", "cer"):
        values[name] = Interval(**values[name])
    values["history"] = tuple(values["history"])
    return FinetuneResult(
        model=load_speech_model(folder, device=device, dtype="float32"),
        folder=folder, audit=DataAudit(table), **values,
    )  # fmt: skip
