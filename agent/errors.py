"""What flexload raises when there is no partial answer to give.

FlexloadError
├── ConfigError         the configuration is wrong: the operator must mend it (exit 2)
├── CommandError        an operator's command cannot be carried out as given
├── StoreError          the state directory cannot be used as it is
│   ├── StoreFullError      no room, or read-only: retried while what is held stays held
│   └── StoreBusyError      locked by another process: retried
└── WireError           a message from a VTN is unusable
    ├── UnreachableError    no usable answer came at all: retried with back-off
    └── NotRegisteredError  the VTN does not know the VEN: it registers again

A single bad event, GPU or job is a value, not one of these.
"""


class FlexloadError(Exception):
    """Root of all of flexload's own errors. Its text is one sentence naming what and where."""


class ConfigError(FlexloadError):
    """The configuration is wrong; `problems` lists every fault, one line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CommandError(FlexloadError):
    """An operator's command cannot be carried out as given."""


class StoreError(FlexloadError):
    """The state directory cannot be used as it is."""


class StoreFullError(StoreError):
    """There is no room to write, or the file system is read-only."""


class StoreBusyError(StoreError):
    """Another process holds the state directory or its database locked."""


class WireError(FlexloadError):
    """A message is unusable as a whole."""


class UnreachableError(WireError):
    """The other side gave no usable answer."""


class NotRegisteredError(WireError):
    """The VTN does not know this VEN, or wants it to register again."""


def quote(text: str) -> str:
    """A stranger's text for use in one of our sentences: escaped, and not too long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
