"""Files of figures in ``data/results``, with the machine and the packages that they are from."""

from __future__ import annotations

import contextlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "about_here", "write_results"]

FOLDER = Path(__file__).resolve().parents[2] / "data" / "results"
PACKAGES = ("torch", "transformers", "onnxruntime", "onnx", "numpy")
OTHERS = ("openvino", "torchao", "faster-whisper")  # where they are installed


def about_here() -> dict[str, Any]:
    """The machine, and versions by package."""
    from ptlab.machine import this_machine

    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    for package in OTHERS:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {"machine": asdict(this_machine()), "versions": versions}


def write_results(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
