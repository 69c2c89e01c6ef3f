"""Which runtime, and which kind of number, is the fastest here: by rule, and with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from ptlab._export.graph_sessions import WIDENED, has_openvino
from ptlab.machine import this_machine

__all__ = ["Equipment", "Road", "road_of_graph", "road_of_weights", "this_equipment"]

BFLOAT16 = ("amx_bf16", "avx512_bf16")  # instructions that multiply it
_KEEP = "; texts may differ in a letter here and there, and dtype='float32' avoids that"


@dataclass(frozen=True)
class Road:
    """A way to run a model; ``load_model(..., runtime="auto")`` chooses one.

    Attributes
    ----------
    runtime : str
        ``"torch"``, ``"onnxruntime"`` or ``"openvino"``.
    dtype : str
        What is computed in; ``"auto"`` is the runtime's own choice.
    why : str

    Examples
    --------
    >>> print(Road("openvino", "bfloat16", "this CPU has amx_bf16"))
    openvino in bfloat16: this CPU has amx_bf16
    """

    runtime: str
    dtype: str
    why: str

    def __str__(self) -> str:
        what = self.runtime if self.dtype == "auto" else f"{self.runtime} in {self.dtype}"
        return f"{what}: {self.why}"


@dataclass(frozen=True)
class Equipment:
    """What a machine has to run models with.

    Attributes
    ----------
    device : str
        That torch would choose: ``"cuda"``, ``"mps"`` or ``"cpu"``.
    flags : tuple of str
        Of the processor, as in `ptlab.Machine`.
    openvino : bool
        Whether OpenVINO is installed.
    onnx : bool
        Whether the package onnx is, which writes graphs.
    """

    device: str
    flags: tuple[str, ...] = ()
    openvino: bool = False
    onnx: bool = False


def this_equipment(device: str) -> Equipment:
    """What this computer has; ``device`` is where the model is to run."""
    return Equipment(
        device.split(":")[0], this_machine().flags, has_openvino(), find_spec("onnx") is not None
    )


def road_of_weights(has: Equipment, dtype: str = "auto") -> Road:
    """The fastest way to run a model whose weights torch reads.

    Parameters
    ----------
    has : Equipment
    dtype : str
        ``"auto"``, or the one that is asked for.

    Examples
    --------
    >>> print(road_of_weights(Equipment("cpu", ("avx2",), openvino=True, onnx=True)))
    openvino in float32: it runs the same graph as torch with less between the matrix products
    """
    if has.device != "cpu":
        return Road("torch", dtype, f"there is a {has.device.upper()} device, faster than the CPU")
    if dtype not in ("auto", "float32", "bfloat16"):
        return Road("torch", dtype, f"on a CPU only torch computes in {dtype}")
    found = next((flag for flag in BFLOAT16 if flag in has.flags), None)
    half = dtype == "bfloat16" or (dtype == "auto" and found is not None)
    kind = "bfloat16" if half else "float32"
    because = f"this CPU multiplies bfloat16 (it has {found})" + (_KEEP if dtype == "auto" else "")
    plain = "it runs the same graph as torch with less between the matrix products"
    if has.openvino and has.onnx:
        return Road("openvino", kind, because if half else plain)
    if half:
        return Road("torch", kind, f"{because}; {_missing(has)}")
    if has.onnx:
        return Road("onnxruntime", "auto", plain)
    return Road("torch", kind, _missing(has))


def road_of_graph(precision: str, has: Equipment, dtype: str = "auto") -> Road:
    """The fastest way to run an exported graph.

    Parameters
    ----------
    precision : str
        Of its weights, as in `ptlab.OnnxModel`.
    has : Equipment
    dtype : str
        ``"auto"``, or the one that is asked for.

    Examples
    --------
    >>> print(road_of_graph("int8_dynamic", Equipment("cpu", openvino=True)))
    onnxruntime: OpenVINO would compute int8_dynamic in floats
    """
    if has.device != "cpu":
        return Road("onnxruntime", dtype, f"it was built for {has.device.upper()}")
    if precision.split("+")[0] in WIDENED:
        return Road("onnxruntime", dtype, f"OpenVINO would compute {precision} in floats")
    if not has.openvino:
        return Road("onnxruntime", dtype, "OpenVINO is not installed")
    chosen = road_of_weights(Equipment("cpu", has.flags, openvino=True, onnx=True), dtype)
    return Road("openvino", chosen.dtype, chosen.why)


def _missing(has: Equipment) -> str:
    names = [n for n, there in (("openvino", has.openvino), ("onnx", has.onnx)) if not there]
    return f"to be faster still, install {' and '.join(names)}"
