"""The configuration: one TOML file, checked as a whole before anything starts.

Every fault is one line that names the key's path and what is allowed. Quantities carry their unit
(`"120 kW"`, `"15 min"`, `"25 %"`); secrets are never in the file, only the names of files that hold
them.
"""

import tomllib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from agent.core.program import BlindRule, Change, Percent
from agent.core.site import WorkloadClass
from agent.credentials import credential_faults
from agent.errors import ConfigError
from agent.faults import faults_of
from agent.fields import (
    AbsolutePath,
    AskText,
    Duration,
    Level,
    Power,
    Share,
    Slew,
    SocketPath,
    Tier,
    Truth,
)
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v20a.settings import Ven20aSettings
from agent.openadr.v20b.settings import Ven20bSettings
from agent.places import DEFAULT_SOCKET, DEFAULT_STATE, directory_fault, socket_fault
from agent.web.settings import WebSettings
from drivers.errors import SettingsError
from drivers.registry import parse_settings, settings_class
from drivers.settings import DriverSettings

AnyVenSettings = Annotated[
    Ven20bSettings | Ven20aSettings | Ven3Settings, Field(discriminator="kind")
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ContactTable(_Table):
    """Whom the utility may ask about the site; stands on the sheet that `flexload enroll` writes."""

    name: str = ""
    email: str = ""
    phone: str = ""
    address: str = Field("", description="Of the site.")


class SiteTable(_Table):
    """The site itself."""

    name: str = Field(min_length=1, description="Shown on the page and in logs.")
    state_dir: AbsolutePath = Field(DEFAULT_STATE, description="Where the agent keeps its state.")
    control_socket: SocketPath = Field(
        DEFAULT_SOCKET, description="Where the command line reaches the agent."
    )
    max_import: Power = Field(
        gt=0, description="The site's largest import: no message can raise it."
    )
    min_import: Power = Field(0.0, description="No message can push the site below this.")
    contact: ContactTable = Field(
        ContactTable(), description="Whom the utility may ask about the site."
    )


class GovernorTable(_Table):
    """Bounds on how the site moves that no message can exceed."""

    slew_down: Slew | None = Field(
        None, description="Fastest fall of the site's power; none: as fast as asked."
    )
    slew_up: Slew | None = Field(
        None, description="Fastest rise of the site's power; none: as fast as allowed."
    )
    dwell: Duration = Field(30.0, description="How long after a fall the limit may not rise again.")
    max_turns_per_h: int = Field(
        12, ge=1, strict=True, description="How often an hour the limit may turn up again."
    )


class PolicyTable(_Table):
    """What may be done to GPUs and jobs."""

    cap_floor: Share = Field(0.5, description="No cap below this share of a GPU's largest limit.")
    min_pause: Duration = Field(60.0, description="Shortest pause of a job while its event lasts.")
    min_notice: Duration = Field(
        0.0, description="Events with less notice are opted out of; a program may have its own."
    )
    rebound_guard: Duration = Field(
        3600.0, description="How long after an event its level before is kept."
    )
    lease_grace: Duration = Field(
        60.0, description="How long a setpoint may outlive its event without us."
    )
    open_lease: Duration = Field(900.0, description="The same for events without an end.")
    max_reasserts: int = Field(
        5, ge=0, strict=True, description="How often a limit moved by others is set again."
    )
    default_class: WorkloadClass = Field(
        WorkloadClass.BATCH, description="Class of jobs no rule matches."
    )
    default_tier: Tier = Field(
        0, description="Tier of jobs and GPUs no rule matches; 0: untouched."
    )
    default_may_pause: Truth = Field(False, description="Whether such jobs may be paused.")


class BlackoutTable(_Table):
    """A stretch in which the site takes part in nothing."""

    start: datetime
    end: datetime
    why: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_stretch(self) -> "BlackoutTable":
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("start and end need an offset, like 2026-12-24T00:00:00Z")
        if self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class WorkloadTable(_Table):
    """One line of the map from jobs to what their owners agreed to. The first match wins."""

    name: str = Field(description="Shell pattern on the job's name; `*`: all.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="Shell patterns on its labels."
    )
    class_: WorkloadClass = Field(
        alias="class", description="Decides how its speed falls with power."
    )
    tier: Tier = Field(description="0 untouched; 1, 2, 3: up to 10, 25, 50 % slower.")
    may_pause: Truth = Field(False, description="Whether it may be paused.")
    max_pause: Duration | None = Field(None, description="Longest single pause; none: the event's.")
    weight: float = Field(1.0, gt=0, strict=True, description="Value a GPU against other work's.")

    @field_validator("max_pause")
    @classmethod
    def _is_a_while(cls, max_pause: float | None) -> float | None:
        if max_pause == 0:
            raise ValueError("must be more than 0; may_pause = false forbids pausing")
        return max_pause


class ProgramTable(_Table):
    """One program the site is enrolled in."""

    name: str = Field(min_length=1)
    market_context: str = Field("*", description="What its events carry; `*` takes all others.")
    ven: str | None = Field(None, description="The VEN whose events it is for; none: any.")
    levels: dict[Level, AskText] = Field(
        default_factory=dict, description="What each level of SIMPLE and the like asks for."
    )
    emergency: AskText | None = Field(
        None, description="What an OpenADR 3 grid emergency asks for; none: the highest level."
    )
    change: Change = Field(
        Change.SIGNED, description="What the sign of a LOAD_DISPATCH delta and the like means."
    )
    percent: Percent = Field(Percent.PERCENT, description="Unit of x-loadControlPercentOffset.")
    ramp_down: Duration = Field(
        0.0, description="Time after the start to full delivery, if the event says none."
    )
    ramp_up: Duration = Field(
        0.0, description="Time after the end to the return, if the event says none."
    )
    margin: Share = Field(0.01, description="How far below the limit to aim.")
    firm: Truth = Field(False, description="Whether the caps themselves must add up to the limit.")
    min_notice: Duration | None = Field(
        None, description="Events with less notice are opted out of; none: as policy.min_notice."
    )
    telemetry: Duration | None = Field(
        None, description="How often the program wants the site's power; stands on the sheet."
    )
    shed_on_test: Truth = Field(False, description="Whether test events shed for real.")
    baseline_window: Duration = Field(900.0, description="How far back the baseline looks.")
    when_blind: BlindRule = Field(
        BlindRule.LIMIT, description="Open-ended events with the VTN lost."
    )
    blind_after: Duration = Field(3600.0, description="How long the VTN must be lost for that.")

    @field_validator("telemetry")
    @classmethod
    def _is_sampled(cls, telemetry: float | None) -> float | None:
        if telemetry is not None and telemetry < 1:
            raise ValueError("must be 1 s or more: the site is sampled once a second")
        return telemetry


class LogTable(_Table):
    """How the agent logs."""

    format: Literal["auto", "text", "json", "journal"] = Field(
        "auto", description="auto: journal under systemd, text on a terminal, else JSON lines."
    )
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Table):
    """The whole file."""

    site: SiteTable
    gpu: dict[str, Any] = Field(description="The GPU driver; `kind` says which.")
    meter: dict[str, Any] = Field(description="The meter; `kind` says which.")
    jobs: list[dict[str, Any]] = Field(default_factory=list, description="The jobs engines.")
    ven: list[AnyVenSettings] = Field(default_factory=list, description="The VENs.")
    program: list[ProgramTable] = Field(default_factory=list)
    workload: list[WorkloadTable] = Field(default_factory=list)
    blackout: list[BlackoutTable] = Field(default_factory=list)
    governor: GovernorTable = GovernorTable()
    policy: PolicyTable = PolicyTable()
    web: WebSettings = WebSettings()
    log: LogTable = LogTable()

    @model_validator(mode="after")
    def _is_consistent(self) -> "Config":
        _distinct("ven", [ven.name for ven in self.ven])
        _distinct("program", [program.name for program in self.program])
        for of in dict.fromkeys(program.ven for program in self.program):
            contexts = [program.market_context for program in self.program if program.ven == of]
            _distinct("program", contexts, "market_context")
        names = {ven.name for ven in self.ven}
        for i, program in enumerate(self.program):
            if program.ven is not None and program.ven not in names:
                raise ValueError(f"program[{i}].ven: no [[ven]] is called {program.ven!r}")
        if self.site.min_import > self.site.max_import:
            raise ValueError("site.min_import must not exceed site.max_import")
        return self

    @property
    def gpu_settings(self) -> DriverSettings:
        """The GPU driver's settings."""
        return parse_settings("gpu", self.gpu)

    @property
    def meter_settings(self) -> DriverSettings:
        """The meter's settings."""
        return parse_settings("meter", self.meter)

    @property
    def jobs_settings(self) -> tuple[DriverSettings, ...]:
        """The jobs engines' settings."""
        return tuple(parse_settings("jobs", table) for table in self.jobs)


def load(path: Path, *, credentials: bool = True) -> Config:
    """Read and check a configuration. Raises `ConfigError` with every fault, a line each.

    `credentials` is False for whoever is to make the files with secrets that it names.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        said = f"`flexload config example > {path}` makes one to edit; --config names another"
        raise ConfigError(f"{path}: {error.strerror}; {said}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return parse(document, credentials=credentials)


def parse(document: Mapping[str, Any], *, credentials: bool = True) -> Config:
    """Check a configuration that is already TOML, as `load` does."""
    faults: list[str] = []
    config: Config | None = None
    try:
        config = Config.model_validate(dict(document))
    except ValidationError as error:
        faults += faults_of(error, Config)
    faults += _driver_faults(document)
    if config is not None:
        faults += _place_faults(config.site)
        faults += credential_faults(config.ven, config.web) if credentials else ()
    if faults or config is None:
        raise ConfigError(*faults)
    return config


def _distinct(table: str, values: list[str], key: str = "name") -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{table}.{key}: {value!r} is used twice")


def _place_faults(site: SiteTable) -> Iterable[str]:
    """Places that something else takes up already."""
    for key, fault in (
        ("state_dir", directory_fault(site.state_dir)),
        ("control_socket", socket_fault(site.control_socket)),
    ):
        if fault is not None:
            yield f"site.{key}: {fault}"


def _driver_faults(document: Mapping[str, Any]) -> Iterable[str]:
    """Faults in the tables whose shape only the driver knows."""
    tables = [("gpu", "gpu", document.get("gpu")), ("meter", "meter", document.get("meter"))]
    jobs = document.get("jobs")
    if isinstance(jobs, list):
        tables += [("jobs", f"jobs[{i}]", table) for i, table in enumerate(jobs)]
    for folder, path, table in tables:
        if not isinstance(table, dict):
            continue
        try:
            model = settings_class(folder, table)
        except SettingsError as error:
            yield f"{path}.{error}"
            continue
        try:
            model.model_validate(table)
        except ValidationError as error:
            yield from faults_of(error, model, path)
    yield from _shared_jobs([table for folder, _, table in tables if folder == "jobs"])


def _shared_jobs(tables: list[Any]) -> Iterable[str]:
    """Jobs that two engines would pause, or two that nothing tells apart."""
    kinds = [table.get("kind") if isinstance(table, dict) else None for table in tables]
    for i, kind in enumerate(kinds):
        if kind == "slurm" and kinds.index(kind) != i:
            yield f"jobs[{i}]: jobs[{kinds.index(kind)}] is of kind 'slurm', too: one cluster at most"
    first: dict[str, int] = {}
    for i, table in enumerate(tables):
        jobs = table.get("job") if isinstance(table, dict) else None
        for job in jobs if isinstance(jobs, list) else ():
            name = job.get("name") if isinstance(job, dict) else None
            if isinstance(name, str) and first.setdefault(name, i) != i:
                yield f"jobs[{i}]: job {name!r} is in jobs[{first[name]}], too"
