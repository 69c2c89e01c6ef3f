"""What runs an ONNX graph: ONNX Runtime, or OpenVINO. Both give log-probs for the same inputs."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ptlab.errors import ModelError

__all__ = [
    "METADATA",
    "RUNTIMES",
    "WIDENED",
    "OnnxRuntimeSession",
    "OpenVinoSession",
    "has_openvino",
    "one_line",
    "onnx_device",
    "open_session",
]

METADATA = "ptlab"  # the key of the facts inside the file
RUNTIMES = ("onnxruntime", "openvino")
# Precisions whose operators OpenVINO takes apart and computes in floats: 2.4 times as slow as
# ONNX Runtime for the int8_dynamic file of mini (measured). It multiplies those of int8_static.
WIDENED = ("int8_dynamic", "int4")
# OpenVINO keeps kernels for every length that it meets, 5,000 of them: after 121 lengths a process
# with mini had 710 MB and went on growing, with this limit 473 MB, in the same time (measured).
KERNELS_KEPT = 200
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_BITS = {"float32": "f32", "bfloat16": "bf16"}


class OnnxRuntimeSession:
    """A graph in ONNX Runtime.

    Parameters
    ----------
    file : Path
    device : {"cpu", "cuda"}
    threads : int
        0 for as many as there are cores.
    """

    runtime, dtype = "onnxruntime", "float32"

    def __init__(self, file: Path, device: str, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3  # errors; they are raised as well
        providers = [_PROVIDERS["cuda"]] if device == "cuda" else []
        providers.append(_PROVIDERS["cpu"])
        self._session = onnxruntime.InferenceSession(str(file), options, providers)
        self.inputs = {i.name for i in self._session.get_inputs()}
        self.metadata = self._session.get_modelmeta().custom_metadata_map.get(METADATA)

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What the graph gives for inputs, by names."""
        return self._session.run(outputs, inputs)


class OpenVinoSession:
    """A graph in OpenVINO, on the CPU.

    Left to itself OpenVINO computes in bfloat16 where the CPU can, and says nothing; here float32
    is float32.

    Parameters
    ----------
    file : Path
    threads : int
        0 for as many as there are cores.
    dtype : {"float32", "bfloat16"}
        What is computed in; integers of the graph stay what they are.
    """

    runtime = "openvino"

    def __init__(self, file: Path, threads: int, dtype: str):
        import openvino

        core, self.dtype = openvino.Core(), dtype
        abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if _BITS[dtype].upper() not in {*abilities, "F32"}:
            raise ModelError(
                "This CPU has neither AVX512-BF16 nor AMX and would compute bfloat16 in software, "
                "slower than float32; use dtype='float32'."
            )
        options = {
            "INFERENCE_PRECISION_HINT": _BITS[dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": str(KERNELS_KEPT),
        }
        if threads:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        graph = core.read_model(str(file))
        self.metadata = (
            graph.get_rt_info(["framework", METADATA]).value
            if graph.has_rt_info(["framework", METADATA])
            else None
        )
        self._compiled = core.compile_model(graph, "CPU", options)
        self.inputs = {name for i in self._compiled.inputs for name in i.get_names()}
        self._one_at_a_time = threading.Lock()  # a request's results are overwritten by the next

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What the graph gives for inputs, by names."""
        with self._one_at_a_time:
            found = self._compiled(inputs)
            return [np.array(found[name], np.float32) for name in outputs]


def open_session(
    file: Path, runtime: str, device: str, threads: int | None, dtype: str = "auto"
) -> OnnxRuntimeSession | OpenVinoSession:
    """A graph, ready to run.

    Raises
    ------
    ModelError
        If the options do not fit, the runtime is missing, or the file is damaged.
    """
    _check(file, runtime, device, threads, dtype)
    set_outside = os.environ.get("OMP_NUM_THREADS", "")
    count = threads or (int(set_outside) if set_outside.isdigit() else 0)
    try:
        if runtime == "openvino":
            return OpenVinoSession(file, count, "float32" if dtype == "auto" else dtype)
        return OnnxRuntimeSession(file, device, count)
    except ModelError:
        raise
    except Exception as error:  # the runtimes' own kinds have no root but this
        raise ModelError(
            f"{runtime} cannot load {file.name!r}: {one_line(error)}. The file is damaged, cut "
            f"short, or needs a newer {runtime}; export it again with ptlab.export_onnx."
        ) from error


def _check(file: Path, runtime: str, device: str, threads: int | None, dtype: str) -> None:
    if threads is not None and threads < 1:
        raise ModelError(f"threads={threads}; expected 1 or more, or None.")
    if runtime == "openvino":
        if not has_openvino():
            raise ModelError('OpenVINO is not installed: pip install "ptlab[openvino]".')
        if device != "cpu":
            raise ModelError(f"device={device!r}; OpenVINO is run on the CPU here.")
        if dtype not in ("auto", *_BITS):
            raise ModelError(f"dtype {dtype!r}; OpenVINO computes in {' or '.join(_BITS)} here.")
    elif dtype not in ("auto", "float32"):
        raise ModelError(
            f"dtype={dtype} for {file.name!r} in ONNX Runtime, whose precision was chosen when it "
            "was written: load it with dtype='auto'; ptlab.quantize makes other precisions."
        )


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def onnx_device(device: str, runtime: str = "onnxruntime") -> str:
    """The device to run a graph on; ``"auto"`` is CUDA where ONNX Runtime has it, else the CPU.

    Raises
    ------
    ModelError
        If there is no such device.
    """
    device = str(device)
    if runtime == "openvino":
        return "cpu" if device == "auto" else device
    import onnxruntime

    built_for = onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda" if _PROVIDERS["cuda"] in built_for else "cpu"
    if device not in _PROVIDERS:
        raise ModelError(f"device={device!r}; ONNX models run on 'auto', 'cpu' or 'cuda'.")
    if _PROVIDERS[device] not in built_for:
        raise ModelError(
            "This ONNX Runtime cannot use CUDA: install onnxruntime-gpu in the place of "
            "onnxruntime, or give device='cpu'."
        )
    return device


def one_line(error: Exception) -> str:
    """The first line of what a runtime says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
