"""List the licence of every package that is installed because of ptlab: ``make licences``.

    python tests/licences.py

The exit code is 1 if one is not among those of ``ACCEPTED``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Licences that let anybody use, change and pass on ptlab together with the package. The weak
# copyleft of the last line is for files of the package itself, which ptlab does not change.
ACCEPTED = {
    "0BSD", "Apache-2.0", "BSD", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0",
    "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
    "LGPL", "MPL-2.0",
}  # fmt: skip
READ = {  # metadata does not say it, somebody has looked
    "docutils": ("BSD", "COPYING: public domain and BSD; GPL is an Emacs file that no wheel has"),
    "locate": ("MIT", "its file LICENSE; of wordfreq, for data/recipes"),
    "pyworld-prebuilt": ("MIT", "its file LICENSE; for data/recipes"),
}
# torch's CUDA builds bring these, under NVIDIA's own terms: for use, not open source. The CPU build
# of torch, which is enough for the course, does without.
NVIDIA = re.compile(r"(nvidia|cuda)-")
SPELT = {  # what metadata says -> SPDX; the first that fits
    r"0BSD": "0BSD",
    r"\bL(ESSER )?GPL|LESSER GENERAL PUBLIC": "LGPL",
    r"\bA?GPL|GENERAL PUBLIC": "GPL",
    r"\bBSD": "BSD",
    r"APACHE": "Apache-2.0",
    r"MOZILLA|\bMPL": "MPL-2.0",
    r"CNRI-PYTHON": "CNRI-Python",
    r"PYTHON SOFTWARE|\bPSF": "PSF-2.0",
    r"\bISC\b": "ISC",
    r"\bHPND\b": "HPND",
    r"MIT-CMU": "MIT-CMU",
    r"MIT-0": "MIT-0",
    r"\bMIT\b": "MIT",
    r"BSL-1\.0|BOOST": "BSL-1.0",
    r"CC0": "CC0-1.0",
    r"UNLICENSE": "Unlicense",
    r"\bZLIB\b": "Zlib",
}


@dataclass(frozen=True)
class Package:
    """An installed package and what it says of its licence."""

    name: str
    version: str
    licence: str

    @property
    def accepted(self) -> bool:
        return bool(NVIDIA.match(self.name)) or is_accepted(self.licence)


def is_accepted(licence: str) -> bool:
    """Whether all parts of an SPDX expression, or one of each choice, are accepted.

    >>> [is_accepted(x) for x in ("MIT AND (GPL-3.0 OR BSD-3-Clause)", "GPL-3.0-only", "")]
    [True, False, False]
    """
    parts = re.split(r"\bAND\b", licence.replace("(", " ").replace(")", " "))
    return all(any(spdx(x) in ACCEPTED for x in re.split(r"\bOR\b", part)) for part in parts)


def spdx(words: str) -> str:
    """The licence that is meant, or the words as they are.

    >>> spdx("GNU Lesser General Public License v2"), spdx("BSD 3-Clause License"), spdx("Mine")
    ('LGPL', 'BSD', 'Mine')
    """
    found = (name for said, name in SPELT.items() if re.search(said, words.upper()))
    return next(found, words.strip())


def licence_of(package: Distribution) -> str:
    """The expression, else the classifiers, else the first line of the field: newest form first."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    name = canonicalize_name(package.name)
    if name in READ:
        return READ[name][0]
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or []
                   if c.startswith("License :: ") and c != "License :: OSI Approved"]  # fmt: skip
    return " AND ".join(classifiers) or (about.get("License") or "").strip().partition("\n")[0]


def installed(root: str = "ptlab") -> Iterator[Package]:
    """What is installed of the requirements of a package, of its extras and of theirs."""
    extras = distribution(root).metadata.get_all("Provides-Extra") or ()
    waiting = [(Requirement(root), set(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    named: set[str] = set()
    while waiting:
        requirement, wanted = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(wanted))
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:  # of an extra that is not installed
            continue
        if key in seen:
            continue
        seen.add(key)
        if key[0] not in named:
            named.add(key[0])
            yield Package(key[0], package.version, licence_of(package))
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted)
            ):
                waiting.append((needed, set(needed.extras)))


def main() -> int:
    packages = sorted(installed(), key=lambda p: p.name)
    for package in packages:
        mark = "" if package.accepted else "   <-- not accepted"
        print(f"{package.name:28} {package.version:16} {package.licence}{mark}")
    refused = [p.name for p in packages if not p.accepted]
    print(f"{len(packages)} packages; not accepted: {', '.join(refused) or 'none'}")
    return bool(refused)


if __name__ == "__main__":
    sys.exit(main())
