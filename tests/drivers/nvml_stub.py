"""Builds and drives `nvml_stub.c`: an NVML library without hardware, for the real nvidia-ml-py.

In the process under test, `NvmlStub(path)` reaches the same library that the driver loaded from
`path`, so what a test does to a GPU is what the driver sees. A separate process gets the library
through the driver's `library` setting or `LD_LIBRARY_PATH`, and its GPUs through the environment
variables that the C file lists.
"""

import ctypes
import subprocess
from pathlib import Path

import pynvml

SOURCE = Path(__file__).with_name("nvml_stub.c")

UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
TIMEOUT = 10
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18
UNKNOWN = 999

ALL = -1
FOREVER = -1

SET = "nvmlDeviceSetPowerManagementLimit"
GET = "nvmlDeviceGetPowerManagementLimit"
GET_ENFORCED = "nvmlDeviceGetEnforcedPowerLimit"


class NvmlStub:
    """The stub library loaded in this process. GPUs are named by their UUID, power is in watts."""

    @staticmethod
    def build(directory: Path) -> Path:
        """Compile the library into `directory`; raises when there is no gcc or it fails."""
        path = directory / "libnvidia-ml.so.1"
        flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
        subprocess.run(
            ["gcc", *flags, "-pthread", "-o", str(path), str(SOURCE), "-lm"],
            check=True,
        )
        return path

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.stub_uuid.restype = ctypes.c_char_p
        self._library.stub_limit.restype = ctypes.c_double

    @staticmethod
    def forget() -> None:
        """Make pynvml forget the library that it loaded, so that the next one may be another."""
        pynvml.nvmlLib = None
        pynvml._nvmlGetFunctionPointer_cache.clear()

    def reset(self, gpus: int = 2, delay_s: float = 0.0, lag_s: float = 0.02) -> None:
        """Start anew with `gpus` GPUs; every call takes `delay_s`; releases whatever hangs."""
        self._library.stub_reset(gpus, ctypes.c_double(delay_s * 1e6), ctypes.c_double(lag_s))

    @property
    def uuids(self) -> list[str]:
        return [self._uuid(index) for index in range(self._library.stub_count())]

    @property
    def references(self) -> int:
        """How many nvmlInit calls nvmlShutdown has not undone."""
        return self._library.stub_references()

    def limit_w(self, uuid: str) -> float:
        """The limit that the GPU itself holds as the one asked for."""
        return self._library.stub_limit(self._index(uuid)) / 1000

    def calls(self, function: str, uuid: str | None = None) -> int:
        """Calls of one function since the reset, on one GPU or on all."""
        return self._library.stub_calls(function.encode(), self._index_or_all(uuid))

    def hanging(self, uuid: str) -> bool:
        """Whether a call on this GPU hangs now."""
        return self._library.stub_hanging(self._index(uuid)) > 0

    def set_range(self, uuid: str, min_w: float, max_w: float, default_w: float) -> None:
        self._change("set_range", uuid, min_w, max_w, default_w)

    def set_demand(self, uuid: str, power_w: float) -> None:
        """What the GPU's work would draw without a limit."""
        self._change("set_demand", uuid, power_w)

    def hold_out_of_band(self, uuid: str, limit_w: float) -> None:
        """Let a BMC hold the GPU at `limit_w`; 0 lets go."""
        self._change("set_out_of_band", uuid, limit_w)

    def write_limit(self, uuid: str, limit_w: float) -> None:
        """Be the second writer: somebody else's nvidia-smi."""
        self._change("set_limit", uuid, limit_w)

    def stick(self, uuid: str, enforced_w: float) -> None:
        """Let the enforced limit read `enforced_w` whatever is asked."""
        self._change("set_stuck", uuid, enforced_w)

    def deafen(self, uuid: str) -> None:
        """Let the GPU take limits without an error and without an effect."""
        self._library.stub_set_deaf(self._index(uuid), 1)

    def set_persistence(self, uuid: str, on: bool) -> None:
        self._library.stub_set_persistence(self._index(uuid), int(on))

    def lose(self, uuid: str, code: int = GPU_IS_LOST) -> None:
        """Answer `code` to every call on this GPU until `find`."""
        self._library.stub_set_lost(self._index(uuid), code)

    def find(self, uuid: str) -> None:
        self.lose(uuid, 0)

    def fail(
        self,
        function: str,
        code: int,
        uuid: str | None = None,
        *,
        times: int = FOREVER,
        done: bool = False,
    ) -> None:
        """Answer `code` to the next `times` calls of a function; `field186` is the power field.

        With `done` the calls take effect all the same.
        """
        index = self._index_or_all(uuid)
        self._library.stub_fail(function.encode(), index, code, times, int(done))

    def forbid(self) -> None:
        """Take the permission to set limits away."""
        self.fail(SET, NO_PERMISSION)

    def hang(self, uuid: str | None = None, function: str = "") -> None:
        """Let calls (of one function or any) on a GPU, or with None on the library, hang."""
        self._library.stub_hang(self._index_or_all(uuid), function.encode())

    def release(self, uuid: str | None = None) -> None:
        self._library.stub_release(self._index_or_all(uuid))

    def reload(self) -> None:
        """Unload and load the kernel driver: limits at their defaults, NVML to be initialised."""
        self._library.stub_reload()

    def _change(self, what: str, uuid: str, *watts: float) -> None:
        change = getattr(self._library, f"stub_{what}")
        change(self._index(uuid), *(ctypes.c_double(w * 1000) for w in watts))

    def _uuid(self, index: int) -> str:
        return self._library.stub_uuid(index).decode()

    def _index(self, uuid: str) -> int:
        return self.uuids.index(uuid)

    def _index_or_all(self, uuid: str | None) -> int:
        return ALL if uuid is None else self._index(uuid)
