"""Licences of what is installed, and of what is given away."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import licences
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_every_installed_package_has_a_licence_that_is_accepted() -> None:
    packages = list(licences.installed())
    assert {"torch", "transformers", "numpy", "num2words", "jinja2"} <= {p.name for p in packages}
    assert [p for p in packages if not p.accepted] == []


@pytest.mark.parametrize(
    "licence", ["GPL-3.0-or-later", "GNU General Public License v3 (GPLv3)", "AGPL-3.0", "UNKNOWN",
                "Other/Proprietary License", "MIT AND GPL-2.0-only", "CC-BY-NC-4.0", ""],
)  # fmt: skip
def test_licences_that_bind_others_or_say_nothing_are_not(licence: str) -> None:
    assert not licences.is_accepted(licence)


@pytest.mark.parametrize(
    "licence", ["LGPL-2.1-or-later", "GNU Library or Lesser General Public License (LGPL)",
                "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", "Apache-2.0 OR GPL-2.0-only",
                "Apache-2.0 WITH LLVM-exception"],
)  # fmt: skip
def test_licences_that_do_not_are(licence: str) -> None:
    assert licences.is_accepted(licence)


def read(name: str) -> str:
    return re.sub(r"\s+", " ", (ROOT / name).read_text("utf-8"))


def test_code_weights_and_data_say_one_thing_wherever_they_say_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    card = (ROOT / "ptlab/assets/mini/README.md").read_text("utf-8")
    head = yaml.safe_load(card.split("---")[1])
    from ptlab.models import MODELS

    assert "Apache License Version 2.0" in read("LICENSE")
    assert project["license"] == citation["license"] == MODELS["mini"].licence == "Apache-2.0"
    assert head["license"] == "apache-2.0"
    assert project["version"] == citation["version"]
    for page in ("data/README.md", "README.md", "CONTRIBUTING.md"):
        assert "CC BY 4.0" in read(page), page
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "Apache-2.0" in read(page), page


@pytest.mark.parametrize("source", ["Kokoro-82M (Apache-2.0", "espeak-ng (GPL-3.0"])
def test_sources_of_the_speech_are_named_with_their_licence(source: str) -> None:
    for page in ("data/README.md", "ptlab/assets/mini/README.md", "CONTRIBUTING.md"):
        assert source in read(page), page


@pytest.mark.parametrize("source", ["UD Portuguese Bosque", "UD Portuguese GSD"])
def test_texts_of_the_training_are_named_with_their_licence(source: str) -> None:
    for page in ("ptlab/assets/mini/README.md", "CONTRIBUTING.md"):
        assert re.search(rf"{source}[^.]*CC BY-SA 4\.0", read(page)), page


def test_citation_has_what_the_format_asks_for() -> None:
    """CFF 1.2.0: required keys, and authors that are entities have a name and no given names."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["authors"] == [{"name": "ptlab contributors"}]
    assert json.dumps(citation)  # no dates that YAML has turned into objects
