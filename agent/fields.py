"""The kinds of values that a configuration holds: quantities with their unit, tiers, levels, paths, addresses."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic.json_schema import WithJsonSchema

from agent import units

Power = Annotated[
    float,
    BeforeValidator(units.parse_power),
    WithJsonSchema({"type": "string", "examples": ["120 kW"]}),
]
Duration = Annotated[
    float,
    BeforeValidator(units.parse_duration),
    WithJsonSchema({"type": "string", "examples": ["15 min"]}),
]
Slew = Annotated[
    float,
    BeforeValidator(units.parse_slew),
    WithJsonSchema({"type": "string", "examples": ["500 kW/min"]}),
]
Share = Annotated[
    float,
    BeforeValidator(units.parse_share),
    WithJsonSchema({"type": "string", "examples": ["25 %"]}),
]
AskText = Annotated[
    Any,
    BeforeValidator(units.parse_ask),
    WithJsonSchema({"type": "string", "examples": ["drop by 25 %"]}),
]
Tier = Annotated[int, Field(ge=0, le=3, strict=True)]
Truth = Annotated[bool, Field(strict=True)]

LONGEST_SOCKET_BYTES = 107
"""Longest path of a Unix socket: sun_path less its final zero, unix(7)."""


def _check_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError('must be an absolute path, like "/var/lib/flexload"')
    return path


def _check_level(level: int) -> int:
    if level < 1:
        raise ValueError("levels count from 1: 0 is normal operation, and signs are ignored")
    return level


def _check_socket(path: Path) -> Path:
    if len(bytes(path)) > LONGEST_SOCKET_BYTES:
        raise ValueError(
            f"must be a path of at most {LONGEST_SOCKET_BYTES} bytes, "
            f"as the system allows for sockets, not {len(bytes(path))}: {path}"
        )
    return path


def split_address(listen: str) -> tuple[str, int]:
    """IP address and port of an address such as `127.0.0.1:9430`, `[::1]:9430` or `localhost:9430`.

    Raises `ValueError` saying what is allowed.
    """
    host, _, digits = listen.rpartition(":")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
        port = int(digits)
        if not 0 <= port <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError("must be an IP address and a port, like 127.0.0.1:9430") from None
    return str(address), port


def is_loopback(listen: str) -> bool:
    """Whether only this host gets through to an address that `split_address` takes."""
    return ipaddress.ip_address(split_address(listen)[0]).is_loopback


def _check_address(listen: str) -> str:
    split_address(listen)
    return listen


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]
SocketPath = Annotated[AbsolutePath, AfterValidator(_check_socket)]
Level = Annotated[int, AfterValidator(_check_level)]
Address = Annotated[str, AfterValidator(_check_address)]
