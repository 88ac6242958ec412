"""`flexload enroll`: everything between a configuration and a VEN that its utility knows.

It looks at what is there, does what is still to do and says what is next; run it again after each
move, the utility's or yours.
"""

import argparse
import asyncio
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agent.clock import SystemClock
from agent.config import Config, load
from agent.control.keeper import departure_in
from agent.enrolment.certificate import Certificate, certifies, read_certificate
from agent.enrolment.check import check_connection
from agent.enrolment.key import (
    KeyKind,
    key_fault,
    kind_of,
    make_key,
    make_request,
    request_file,
)
from agent.enrolment.question import Ven20Settings, without_certificate
from agent.enrolment.sheet import Sheet, document, markdown, sheet_of
from agent.enrolment.step import State, Step
from agent.errors import CommandError, ConfigError, StoreError
from agent.inspection import measure
from agent.openadr.v3.settings import Ven3Settings
from agent.openadr.v20a.settings import Ven20aSettings
from agent.store.registrations import Registration, registration_in
from agent.units import format_duration

SOON = timedelta(days=30)
NAME_WIDTH = 12
WIDTH = 100


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the VEN's files stand."""

    steps: tuple[Step, ...]
    certificate: Certificate | None
    """None while there is none, or none that is its own."""


def run(options: argparse.Namespace) -> int:
    """Do what can be done; 0 when nothing is left to do."""
    config = load(options.config, credentials=False)
    ven = _with_folder(_chosen(config, options.ven), options.credentials)
    sheet_to = options.sheet or ("-" if options.json else None)
    say = _say_aside if sheet_to == "-" else _say
    say(f"VEN {ven.name}, known to the utility as {ven.label}")
    now = SystemClock().now()
    credentials = _credentials(ven, KeyKind(options.key_type), now)
    _tell(say, "key and certificate", credentials.steps)
    registration, standing = _registration(config, ven, now)
    capacity = "not asked for (--offline)" if options.offline else asyncio.run(measure(config))
    sheet = sheet_of(config, ven, credentials.certificate, registration, capacity, now)
    _show(sheet, sheet_to, as_json=options.json, say=say)
    steps = [*credentials.steps]
    if not options.offline:
        say("\nconnection")
        steps += asyncio.run(_connect(say, _as_far_as_possible(ven, credentials)))
    say(_line(standing))
    left = [step for step in steps if not step.good]
    _say_next(say, left, standing, offline=options.offline)
    return 1 if left else 0


def _chosen(config: Config, name: str | None) -> Ven20Settings:
    vens = {ven.name: ven for ven in config.ven if not isinstance(ven, Ven3Settings)}
    others = [ven.name for ven in config.ven if ven.name not in vens]
    if name in others or (others and not vens):
        said = (
            "speaks OpenADR 3, which has no certificates to enrol: `flexload check-config --online`"
        )
        raise ConfigError(f"VEN {name or others[0]} {said} tries its client_id and client_secret")
    if not vens:
        raise ConfigError("no [[ven]]: `flexload config example` shows what it holds")
    if name is not None and name not in vens:
        raise ConfigError(f"--ven: there is no VEN {name!r}, only {', '.join(vens)}")
    if name is None and len(vens) > 1:
        raise ConfigError(f"there are several VENs: say which with --ven, one of {', '.join(vens)}")
    return vens[name or next(iter(vens))]


def _with_folder(ven: Ven20Settings, folder: Path | None) -> Ven20Settings:
    """The settings with `cert` and `key` in another folder, by the same names."""
    if folder is None or ven.cert is None or ven.key is None:
        return ven
    files = {"cert": folder / ven.cert.name, "key": folder / ven.key.name}
    return ven.model_copy(update=files)


def _credentials(ven: Ven20Settings, kind: KeyKind, now: datetime) -> Credentials:
    if ven.key is None or ven.cert is None:
        if not ven.vtn_url.startswith("https:"):
            step = Step("key", State.NOTE, "none is needed: vtn_url is http://")
            return Credentials((step,), None)
        remedy = (
            "add two lines to its [[ven]] table, like these, and run this command again:\n"
            'cert = "/etc/flexload/ven.crt"\nkey = "/etc/flexload/ven.key"'
        )
        return Credentials((Step("key", State.MISSING, "none is configured", remedy),), None)
    steps: list[Step] = []
    try:
        steps.append(_key(ven.key, kind))
        if not ven.cert.exists():
            return Credentials((*steps, *_request(ven.key, ven.cert, ven.label)), None)
        certificate = read_certificate(ven.cert)
        if not certifies(certificate, ven.key):
            text = f"{ven.cert} is for another key than {ven.key}"
            remedy = "put the certificate there that was signed for this key's request"
            step = Step("certificate", State.FAIL, text, remedy)
            return Credentials((*steps, step), None)
    except CommandError as error:
        return Credentials((*steps, Step("files", State.FAIL, str(error))), None)
    renewal = _renewal(ven.key, ven.cert, ven.label, certificate.ends - now)
    return Credentials((*steps, *_described(certificate, ven.cert, renewal, now)), certificate)


def _key(file: Path, kind: KeyKind) -> Step:
    made = not file.exists()
    if made:
        make_key(file, kind)
    text = f"{file}, {kind_of(file)}"
    if fault := key_fault(file):
        return Step("key", State.NOTE, f"{text}: {fault}")
    return Step("key", State.OK, f"{text}, made just now" if made else text)


def _request(key: Path, cert: Path, name: str) -> Iterator[Step]:
    made = make_request(key, name)
    file = request_file(key)
    yield Step("request", State.OK, f"{file}, for {name}" + (", made just now" if made else ""))
    remedy = (
        f"send {file} and the sheet to the utility;\n"
        f"put the certificate that it returns at {cert},\n"
        "and run this command again"
    )
    yield Step("certificate", State.MISSING, f"{cert} is not there yet", remedy)


def _renewal(key: Path, cert: Path, name: str, left: timedelta) -> str:
    """How to get the next certificate, with the request for it made; empty while there is time."""
    if left >= SOON:
        return ""
    try:
        make_request(key, name)
    except CommandError as error:
        return str(error)
    return (
        f"send {request_file(key)} to the utility again, and put what it returns in place of {cert}"
    )


def _described(certificate: Certificate, file: Path, renewal: str, now: datetime) -> Iterator[Step]:
    name = "certificate"
    begins, ends = (f"{at:%Y-%m-%d}" for at in (certificate.begins, certificate.ends))
    text = f'{file}, "{certificate.subject}" by "{certificate.issuer}"'
    yield Step(name, State.OK, text)
    if now >= certificate.ends:
        yield Step("valid", State.FAIL, f"it expired on {ends}", renewal)
    elif now < certificate.begins:
        yield Step("valid", State.FAIL, f"not before {begins}", "mend the clock here, or wait")
    else:
        left = certificate.ends - now
        state, words = State.OK, f"until {ends}, {format_duration(left)} more"
        if renewal:
            state, words = State.NOTE, f"{words}: {renewal}"
        yield Step("valid", state, words)
    yield Step("fingerprint", State.OK, certificate.fingerprint)
    yield Step("SHA-256", State.OK, certificate.sha256)


def _as_far_as_possible(ven: Ven20Settings, credentials: Credentials) -> Ven20Settings:
    """The VEN without what it does not have yet, so that what there is can be tried."""
    if credentials.certificate is not None:
        return ven
    return without_certificate(ven)


async def _connect(say: Callable[[str], None], ven: Ven20Settings) -> list[Step]:
    if ven.ca is not None and not ven.ca.exists() and ven.vtn_url.startswith("https:"):
        remedy = "the utility gives it to you; or leave `ca` out, if it uses a public one"
        step = Step("CA", State.MISSING, f"{ven.ca} is not there yet", remedy)
        say(_line(step))
        return [step]
    steps = []
    async for step in check_connection(ven):
        say(_line(step))
        steps.append(step)
    return steps


def _registration(
    config: Config, ven: Ven20Settings, now: datetime
) -> tuple[Registration | None, Step]:
    """What the agent has agreed with the VTN, or its operator decided, read from beside it."""
    name, file = "registered", config.site.state_dir / "state.db"
    try:
        departure = departure_in(file, ven.name, now)
        known = registration_in(file, ven.name)
    except StoreError as error:
        return None, Step(name, State.NOTE, f"cannot be told: {error}")
    if departure is not None:
        text = f"no: {departure.by} took it out of its program ({departure.why})"
        return None, Step(name, State.NOTE, text, f"`flexload register {ven.name}` brings it back")
    if isinstance(ven, Ven20aSettings):
        return None, Step(
            name, State.OK, f"2.0a knows no registration: its venID is {ven.ven_id!r}"
        )
    if known is None or not known.registration_id or known.vtn_url != ven.vtn_url:
        return None, Step(name, State.NOTE, "not yet: the agent does that once it runs")
    text = f"as {known.ven_id!r}, with VTN {known.vtn_id!r}"
    return known, Step(name, State.OK, text)


def _show(sheet: Sheet, to: str | None, *, as_json: bool, say: Callable[[str], None]) -> None:
    text = json.dumps(document(sheet), indent=2) + "\n" if as_json else markdown(sheet)
    if to is None:
        say("\nthe sheet for the utility (--sheet FILE writes it to a file)\n")
        say(text.rstrip())
    elif to == "-":
        print(text, end="")
    else:
        try:
            Path(to).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"--sheet: {to} cannot be written: {error.strerror}") from error
        say(f"\nthe sheet for the utility is in {to}")


def _say_next(
    say: Callable[[str], None], left: list[Step], standing: Step, *, offline: bool
) -> None:
    told = (step.remedy or (step.text if step.state is State.FAIL else "") for step in left)
    remedies = list(dict.fromkeys(filter(None, told)))
    if not remedies and standing.remedy:
        remedies = [standing.remedy]
    elif not remedies and offline:
        remedies = ["this command without --offline, to try the connection"]
    elif not remedies and standing.state is not State.OK:
        remedies = ["start the agent (`flexload run`, or its service): it registers by itself"]
    if not remedies:
        say("\nenrolled: nothing is left to do")
    for word, remedy in zip(("next", *["then"] * len(remedies)), remedies, strict=False):
        first, *more = remedy.splitlines()
        say("\n".join([f"\n{word:<8}{first}", *(f"{'':8}{line}" for line in more)]))


def _tell(say: Callable[[str], None], title: str, steps: list[Step] | tuple[Step, ...]) -> None:
    say(f"\n{title}")
    for step in steps:
        say(_line(step))


def _line(step: Step) -> str:
    """`  ok    TCP          127.0.0.1:8443 answers`, on as many lines as it takes."""
    head = f"  {step.state:<5} {step.name:<{NAME_WIDTH}} "
    width = WIDTH - len(head)
    wrapped = textwrap.wrap(step.text, width, break_long_words=False, break_on_hyphens=False)
    return head + f"\n{'':{len(head)}}".join(wrapped)


def _say(text: str) -> None:
    print(text, flush=True)


def _say_aside(text: str) -> None:
    """Where the sheet itself goes to standard output."""
    print(text, file=sys.stderr, flush=True)
