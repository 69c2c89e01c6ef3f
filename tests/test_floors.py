"""The oldest versions are those that pyproject.toml names."""

from floors import RUNTIME, floors
from packaging.requirements import Requirement
from test_package import project


def test_every_dependency_is_held_at_its_floor():
    extras = project()["optional-dependencies"]
    needs = [*project()["dependencies"], *(line for name in RUNTIME for line in extras[name])]
    held = dict(line.split("==") for line in floors())
    assert list(held) == [Requirement(line).name for line in needs]
    for need in map(Requirement, needs):
        assert need.specifier.contains(held[need.name]), need
        assert f">={held[need.name]}" == str(need.specifier)
