"""A network that drops packets: a site in a network namespace of its own, behind a router in another."""

import os
import shutil
import subprocess

from tests.requirement import missing


class Network:
    """This machine and the site's namespace, and between them a router that forwards packets or drops them."""

    def __init__(self) -> None:
        name = f"flexload-{os.getpid()}"
        self._router, self._site = f"{name}-router", f"{name}-site"
        self._link = f"fl{os.getpid()}"
        net = f"198.18.{os.getpid() % 256}"
        self.here, self._uplink = f"{net}.1", f"{net}.2"
        """`here`: this machine's address, as the site reaches it."""
        self._gateway, self._there = f"{net}.5", f"{net}.6"

    def build(self) -> None:
        """Skips or fails the test where that is not allowed."""
        if shutil.which("ip") is None:
            missing("netns", "no ip (apt-get install iproute2)")
        if self._ip("netns", "add", self._router).returncode != 0:
            missing("netns", "network namespaces may not be made here")
        self._must("netns", "add", self._site)
        self._cable(("link", "add", self._link), self._router)
        self._cable(("-n", self._router, "link", "add", "lan"), self._site)
        self._address((), self._link, self.here)
        self._address(("-n", self._router), "wan", self._uplink)
        self._address(("-n", self._router), "lan", self._gateway)
        self._address(("-n", self._site), "wan", self._there)
        self._must("-n", self._site, "link", "set", "lo", "up")
        self._must("-n", self._site, "route", "add", "default", "via", self._gateway)
        self._must("route", "add", self._there, "via", self._uplink)
        self.carry()

    def remove(self) -> None:
        for namespace in (self._router, self._site):
            self._ip("netns", "delete", namespace)
        self._ip("link", "delete", self._link)

    def carry(self) -> None:
        """Let packets through."""
        self._forward("1")

    def drop(self) -> None:
        """Let no packet through any more; nobody is told."""
        self._forward("0")

    @property
    def site(self) -> tuple[str, ...]:
        """What a command begins with to run at the site."""
        return ("ip", "netns", "exec", self._site)

    def _cable(self, made: tuple[str, ...], namespace: str) -> None:
        self._must(*made, "type", "veth", "peer", "name", "wan", "netns", namespace)

    def _address(self, where: tuple[str, ...], device: str, address: str) -> None:
        self._must(*where, "address", "add", f"{address}/30", "dev", device)
        self._must(*where, "link", "set", device, "up")

    def _forward(self, flag: str) -> None:
        setting = f"echo {flag} >/proc/sys/net/ipv4/ip_forward"
        self._must("netns", "exec", self._router, "sh", "-c", setting)

    def _must(self, *arguments: str) -> None:
        done = self._ip(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)

    def _ip(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10)
