"""The kinds of values that a configuration holds: quantities with their unit, tiers, levels, paths."""

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


AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]
SocketPath = Annotated[AbsolutePath, AfterValidator(_check_socket)]
Level = Annotated[int, AfterValidator(_check_level)]
