"""sd_notify(3), against a real datagram socket."""

import socket

import pytest

from agent.telemetry.systemd import ServiceManager


@pytest.fixture(params=["file", "abstract"])
def manager_socket(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "file" else "@flexload-test"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(address.replace("@", "\0", 1))
    server.settimeout(1)
    yield address, server
    server.close()


def test_ready_comes_with_the_first_cycle_and_alive_with_every_one(manager_socket):
    address, server = manager_socket
    manager = ServiceManager(address)
    manager.cycle_done("Normal operation\nat 20 kW")
    manager.cycle_done("Holding")
    manager.stopping()
    assert server.recv(4096) == b"READY=1\nSTATUS=Normal operation at 20 kW\nWATCHDOG=1"
    assert server.recv(4096) == b"STATUS=Holding\nWATCHDOG=1"
    assert server.recv(4096) == b"STOPPING=1\nSTATUS=stopping"


def test_without_a_service_manager_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ServiceManager().cycle_done("fine")
    ServiceManager(str(tmp_path / "gone")).cycle_done("fine")
