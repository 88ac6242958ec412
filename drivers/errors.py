"""What a driver raises when there is no partial answer to give.

DriverError
├── SettingsError       the driver's settings cannot work here: fix the configuration
└── UnavailableError    the thing behind the driver is away: try again later

Everything that happens to one device or one job out of several is a value, not an exception
(`drivers.outcome`).
"""


class DriverError(Exception):
    """Root of all driver errors. Its text is one sentence naming what and where."""


class SettingsError(DriverError):
    """The settings name something that is not there or not allowed; retrying will not help."""


class UnavailableError(DriverError):
    """Driver library, socket or file is not answering at all; retrying may help."""
