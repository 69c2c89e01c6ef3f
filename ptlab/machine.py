"""The processor that a measurement was made on: a speed without it says nothing.

>>> import ptlab
>>> here = ptlab.this_machine()
>>> here.cores >= 1, isinstance(str(here), str)
(True, True)
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "this_machine"]

# What decides how fast small numbers are multiplied: sums of int8 products in one instruction
# (vnni, dotprod, i8mm), bfloat16 and float16, tiles (amx); and the width of a register.
DECISIVE = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8",
    "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A processor; made by `ptlab.this_machine`.

    Attributes
    ----------
    processor : str
    cores : int
        That this process may use.
    flags : tuple of str
        Instructions that matter for int8, bfloat16 and float16; empty where they are not told.

    Examples
    --------
    >>> print(Machine("Intel Xeon", 2, ("avx2", "avx512_vnni")))
    Intel Xeon, 2 cores: avx2 avx512_vnni
    """

    processor: str
    cores: int
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        return f"{self.processor}, {cores}: {' '.join(self.flags) or 'its flags are not known'}"


def this_machine() -> Machine:
    """The processor of this computer, and which of its instructions matter for small numbers.

    Examples
    --------
    >>> this_machine().cores >= 1
    True
    """
    name, flags = _name_and_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(name, cores or 1, tuple(f for f in DECISIVE if f in flags))


def _name_and_flags() -> tuple[str, set[str]]:
    if CPUINFO.is_file():
        return parse_cpuinfo(CPUINFO.read_text("utf-8", "replace"))
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string"), set()
    return platform.processor() or platform.machine(), set()


def parse_cpuinfo(text: str) -> tuple[str, set[str]]:
    """Name and flags in Linux's ``/proc/cpuinfo``, of Intel, AMD or ARM.

    Examples
    --------
    >>> name, flags = parse_cpuinfo("Features : fp asimd asimddp")
    >>> sorted(flags)
    ['asimd', 'asimddp', 'fp']
    """
    found = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", text, re.M))
    name = found.get("model name") or platform.machine()
    flags = (found.get("flags") or found.get("Features") or "").split()
    return re.sub(r"\((?:R|TM)\)| +(?= )", "", name).strip(), set(flags)


def _sysctl(key: str) -> str:
    done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
    return done.stdout.strip() or platform.machine()
