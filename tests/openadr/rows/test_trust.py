"""Rows V30 to V32 of the research, and mutual TLS: what openleadr's client gets wrong about trust."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.openadr.iso8601 import parse_time
from tests.openadr.pki import Authority
from tests.openadr.rig import Rig, until
from tests.openadr.vtn import OpenLeadrVtn, running

pytestmark = pytest.mark.openadr2

HOUR_S = 3600.0
AHEAD = timedelta(seconds=30)
"""openleadr takes no message signed more than 5 s ago, but any that comes from the future."""


@pytest.fixture
def now() -> datetime:
    """openleadr's server reads the real clock."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
async def test_openleadrs_vtn_knows_us_by_the_fingerprint_of_our_certificate(
    tmp_path, authority, now, kind
):
    vtn_pair, ven = authority.issue("localhost", kind), authority.issue("ven", kind)
    server = OpenLeadrVtn(tls=vtn_pair, ca=authority.ca, fingerprint=ven.fingerprint)
    async with (
        running(server),
        Rig(tmp_path, server.url, at=now, ca=authority.ca, **ven.files) as rig,
    ):
        await rig.turn()
        server.add_event("ev-1", now, HOUR_S, 1000.0)
        await rig.turn()
        assert server.opts == [("ev-1", "optIn")]
        assert server.seen_fingerprints == [ven.fingerprint]
        link = rig.ven.link()
        assert (link.trouble, link.rejected) == ("", 0)
        assert link.certificate_expires == ven.certificate.not_valid_after_utc
        assert link.vtn_certificate_expires == vtn_pair.certificate.not_valid_after_utc


@pytest.mark.parametrize(("vtn_kind", "ven_kind"), [("rsa", "rsa"), ("ecc", "ecc"), ("ecc", "rsa")])
async def test_openleadrs_vtn_and_we_sign_and_verify_each_other(
    tmp_path, authority, now, vtn_kind, ven_kind
):
    """Registration, reports, events, a change, a cancellation: every message both ways."""
    vtn_pair, ven = authority.issue("localhost", vtn_kind), authority.issue("ven", ven_kind)
    server = OpenLeadrVtn(
        requests={"RealPower": (1, 5)},
        tls=vtn_pair,
        ca=authority.ca,
        signer=vtn_pair,
        fingerprint=ven.fingerprint,
        verify=True,
    )
    trust = {"ca": authority.ca, **ven.files, "sign": True, "replay_window_s": 600.0}
    trust |= {"timeout_s": 20.0}  # openleadr takes its time to sign
    async with (
        running(server),
        Rig(
            tmp_path, server.url, at=now + AHEAD, vtn_fingerprint=vtn_pair.fingerprint, **trust
        ) as rig,
    ):
        await rig.rested()
        await server.seen("oadrCreatedReport")
        rig.samples(now + AHEAD, 100)
        server.add_event("ev-1", now, HOUR_S, 1000.0)
        await rig.pass_time(12)
        assert server.opts == [("ev-1", "optIn")]
        await until(lambda: server.values)
        server.modify("ev-1", 900.0)
        await rig.pass_time(11)
        assert rig.record().event.signals[0].intervals[0].value == 900.0
        assert server.opts == [("ev-1", "optIn")] * 2
        link = rig.ven.link()
        assert (link.trouble, link.rejected, link.lost_since) == ("", 0, None)


async def test_certificates_that_change_in_service_cost_no_report(tmp_path, authority, now):
    """The utility moves to another CA, and we get a certificate of that, to sign with, too.

    openleadr's client reads its files once.
    """
    files = {name: tmp_path / name for name in ("cert", "key", "ca")}
    ven, vtn_pair = authority.issue("ven"), authority.issue("localhost")

    def install(**contents: Path) -> None:
        for name, source in contents.items():
            files[name].write_bytes(source.read_bytes())

    install(ca=authority.ca, **ven.files)
    server = OpenLeadrVtn(
        requests={"RealPower": (1, 5)},
        tls=vtn_pair,
        ca=authority.ca,
        fingerprint=ven.fingerprint,
        verify=True,
    )
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new", "new CA", "ecc")
    new_vtn, new_ven = new.issue("localhost", "ecc"), new.issue("ven", "ecc")
    async with (
        running(server),
        Rig(tmp_path, server.url, at=now + AHEAD, timeout_s=20.0, sign=True, **files) as rig,
    ):
        await rig.rested()
        await server.seen("oadrCreatedReport")
        rig.samples(now + AHEAD, 300)
        await rig.pass_time(22)
        install(key=new_ven.key)  # a half of it has arrived
        await rig.pass_time(12)
        link = rig.ven.link()
        assert link.lost_since is None
        assert link.trouble.count(f"key {files['key']} is not that of the certificate") == 2
        install(cert=new_ven.cert, ca=new.ca)
        await server.stop()
        server.tls, server.ca, server.fingerprint = new_vtn, new.ca, new_ven.fingerprint
        await rig.pass_time(5)
        await server.start()
        await rig.pass_time(80)
        link = rig.ven.link()
        assert (link.trouble, link.lost_since) == ("", None)
        assert link.certificate_expires == new_ven.certificate.not_valid_after_utc
        assert link.vtn_certificate_expires == new_vtn.certificate.not_valid_after_utc
    sent = [
        datetime.fromisoformat(start)
        for message in server.of("oadrUpdateReport")
        for r_id, start, _, _ in message.report_data
        if r_id.endswith("power")
    ]
    assert sent == [sent[0] + timedelta(seconds=n) for n in range(len(sent))]
    assert sent[-1] > now + AHEAD + timedelta(seconds=100)


def trusting(tmp_path, server: OpenLeadrVtn, pair, at: datetime) -> Rig:
    """A VEN that takes signed messages only."""
    return Rig(tmp_path, server.url, at=at, timeout_s=20.0, vtn_fingerprint=pair.fingerprint)


@pytest.mark.parametrize(
    ("off", "why"),
    [
        (timedelta(seconds=-6), None),
        (timedelta(seconds=6), None),
        (timedelta(hours=-2), "signed 2 h behind our clock"),
        (timedelta(hours=2), "signed 2 h ahead of our clock"),
    ],
)
async def test_v30_a_signer_whose_clock_is_off_is_judged_alike_either_way(
    tmp_path, authority, now, off, why
):
    """openleadr's client refuses a signer 6 s slow and takes one an hour fast."""
    pair = authority.issue("localhost")
    server = OpenLeadrVtn(signer=pair)
    async with running(server), trusting(tmp_path, server, pair, now - off) as rig:
        await rig.rested()
        server.add_event("ev-1", now, HOUR_S, 1000.0)
        await rig.turn()
        link = rig.ven.link()
        if why is None:
            assert server.opts == [("ev-1", "optIn")]
            assert (link.trouble, link.rejected) == ("", 0)
        else:
            assert why in link.trouble
            assert link.rejected > 0
            assert rig.book.records == {}


async def test_v31_an_unsigned_message_is_refused_and_counted(tmp_path, authority, now):
    """openleadr's client trips over it with an AttributeError and is safe by accident."""
    pair = authority.issue("localhost")
    server = OpenLeadrVtn(signer=pair)
    async with running(server), trusting(tmp_path, server, pair, now) as rig:
        server.add_event("ev-1", now, HOUR_S, 1000.0)
        await rig.turn()
        held = rig.record()
        await server.stop()
        server.signer = None
        await server.start()
        server.add_event("ev-2", now, HOUR_S, 2000.0)
        await rig.turn()
        link = rig.ven.link()
        assert "the message is not signed" in link.trouble
        assert link.rejected > 0
        assert link.lost_since is not None
        assert list(rig.book.records.values()) == [held]
        await server.stop()
        server.signer = pair
        await server.start()
        await rig.turn()
        assert rig.ven.link().lost_since is None


async def test_v32_times_are_utc_whatever_the_time_zone(tmp_path, now, monkeypatch):
    """openleadr's client writes the local time of the host as if it were UTC."""
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        server = OpenLeadrVtn(requests={"RealPower": (1, 5)})
        async with running(server), Rig(tmp_path, server.url, at=now) as rig:
            await rig.rested()
            await server.seen("oadrCreatedReport")
            rig.samples(now, 100)
            server.add_event("ev-1", now + timedelta(hours=1), HOUR_S, 1000.0)
            await rig.pass_time(20)
            assert rig.record().event.starts_at == now + timedelta(hours=1)
            await until(lambda: server.values)
            assert abs(server.values[0][1] - now) < timedelta(seconds=30)
            said = [
                (message.kind, node.text)
                for message in server.received
                for node in message.tree.iter("{*}createdDateTime", "{*}date-time")
            ]
            assert {"oadrRegisterReport", "oadrUpdateReport"} <= {kind for kind, _ in said}
            for _, text in said:
                assert text.endswith("Z")
                assert abs(parse_time(text) - now) < timedelta(seconds=60)
    finally:
        monkeypatch.undo()
        time.tzset()
