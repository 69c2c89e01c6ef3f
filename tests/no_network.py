"""A plugin of the tests, and of the doctests of ptlab: the network is closed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest

OPEN = ("network", "browser")  # tiers that are for what is outside, or start a whole JupyterLab
LOCAL = ("test_browser", "test_ray_batch")  # files that start a server on this machine and ask it


class NetworkClosedError(OSError):
    """What a closed socket raises; libraries take it for a machine without a network."""


@pytest.fixture(autouse=True)
def asked_outside(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Where a test wanted to connect to: nowhere, or it fails, even if the error was caught.

    Servers on this machine are open to the files of ``LOCAL`` and to tests marked ``localhost``.
    """
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        if not any(request.node.get_closest_marker(tier) for tier in OPEN):
            marked = request.node.get_closest_marker("localhost") is not None
            _close(patch, asked, marked or request.path.stem in LOCAL)
        yield asked
    assert not asked, f"a test without a network asked for {', '.join(asked)}"


def _close(patch: pytest.MonkeyPatch, asked: list[str], local: bool) -> None:
    def guard(host: Any) -> None:
        if not (local and _is_local(host)):
            asked.append(str(host))
            raise NetworkClosedError(f"Tests have no network, and {host} was asked for.")

    def guarded(name: str) -> Any:
        real = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                guard(address[0])
            return real(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if host and not _is_address(host):
            guard(host)
        return resolve(host, *args, **options)

    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, guarded(name))
    patch.setattr(socket, "getaddrinfo", getaddrinfo)


def _is_address(host: Any) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: Any) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
