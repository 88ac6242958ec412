"""The agent's places in the file system: where they are by default, and whether they can be used."""

import os
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/flexload/agent.toml")
DEFAULT_STATE = Path("/var/lib/flexload")
DEFAULT_SOCKET = Path("/run/flexload/control.sock")


def socket_fault(path: Path) -> str | None:
    """Why a path cannot be the control socket's: what is there is somebody else's. None: it can."""
    mode = _mode(path)
    if mode is None or stat.S_ISSOCK(mode):
        return None
    return f"{path} exists and is not a socket"


def directory_fault(path: Path) -> str | None:
    """Why a path cannot be a directory of ours. None: nothing is to be seen against it."""
    mode = _mode(path)
    if mode is None or stat.S_ISDIR(mode):
        return None
    return f"{path} exists and is not a directory"


def writing_fault(directory: Path) -> str | None:
    """Why a directory cannot be used, found by using it as the agent does: make it where it is not
    there, write a file, and take both away again. None: it can.
    """
    made: list[Path] = []
    try:
        for each in (*reversed(directory.parents), directory):
            if not each.exists():
                each.mkdir()
                made.append(each)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".flexload-") as file:
            file.write(b"flexload")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"{directory} cannot be used: {error.strerror}"
    finally:
        for each in reversed(made):
            with suppress(OSError):
                each.rmdir()
    return None


def answers(path: Path) -> bool:
    """Whether an agent listens on a control socket."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        connection.connect(str(path))
        return True
    return False


def _mode(path: Path) -> int | None:
    """What kind of thing is there; None when nothing is, or that cannot be seen."""
    try:
        return path.stat().st_mode
    except OSError:
        return None
