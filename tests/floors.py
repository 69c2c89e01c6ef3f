"""Print the oldest versions that pyproject.toml allows, as constraints for pip: ``make oldest``."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ("export", "lora")  # extras that the tests of ptlab use; tools may be new


def floors() -> list[str]:
    """Lines such as ``numpy==1.26``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in RUNTIME for line in extras[name])]
    needs = [Requirement(line) for line in lines]
    return [f"{n.name}=={s.version}" for n in needs for s in n.specifier if s.operator == ">="]


if __name__ == "__main__":
    print("\n".join(floors()))
