"""Keys and signing requests: made once, kept well, never overwritten."""

import os
import stat
import subprocess

import pytest
from cryptography import x509
from openleadr.utils import certificate_fingerprint

from agent.enrolment.certificate import certifies, read_certificate
from agent.enrolment.key import (
    KeyKind,
    key_fault,
    kind_of,
    make_key,
    make_request,
    request_file,
)
from agent.errors import CommandError
from tests.openadr.pki import Authority

pytestmark = pytest.mark.openadr2


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (KeyKind.ECC, "ECC P-256"),
        (KeyKind.RSA, "RSA 2048"),
        (KeyKind.RSA_3072, "RSA 3072"),
    ],
)
def test_a_key_is_made_for_its_owner_alone_whatever_the_umask(tmp_path, kind, name):
    file = tmp_path / "ven.key"
    before = os.umask(0)
    try:
        make_key(file, kind)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert kind_of(file) == name
    assert key_fault(file) == ""


def test_a_key_is_never_overwritten(tmp_path):
    file = tmp_path / "ven.key"
    make_key(file, KeyKind.ECC)
    before = file.read_bytes()
    with pytest.raises(CommandError, match=r"ven\.key cannot be written: File exists"):
        make_key(file, KeyKind.RSA)
    assert file.read_bytes() == before


def test_a_link_is_not_followed_to_somewhere_else(tmp_path):
    (tmp_path / "ven.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CommandError, match="File exists"):
        make_key(tmp_path / "ven.key", KeyKind.ECC)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_no_place_for_a_key(tmp_path):
    with pytest.raises(CommandError, match=r"make it with `install -d -m 0700 .*none`"):
        make_key(tmp_path / "none" / "ven.key", KeyKind.ECC)
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"file, for the key, is not a directory"):
        make_key(tmp_path / "file" / "ven.key", KeyKind.ECC)
    tmp_path.chmod(0o777)
    with pytest.raises(CommandError, match="anybody may write there"):
        make_key(tmp_path / "ven.key", KeyKind.ECC)
    assert not (tmp_path / "ven.key").exists()


def test_systemds_copies_are_not_the_place(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.enrolment.key.CREDENTIALS", tmp_path)
    with pytest.raises(CommandError, match="--credentials /etc/flexload/credentials"):
        make_key(tmp_path / "flexload.service" / "ven.key", KeyKind.ECC)


def test_a_key_that_anybody_may_read_is_named(tmp_path):
    file = tmp_path / "ven.key"
    make_key(file, KeyKind.ECC)
    file.chmod(0o640)
    assert key_fault(file) == "", "the agent's group may have to"
    file.chmod(0o644)
    assert "mode 0644" in key_fault(file)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_the_request_is_one_that_openssl_takes(tmp_path, kind):
    key = tmp_path / "ven.key"
    make_key(key, kind)
    assert make_request(key, "gpu-hall-1")
    file = request_file(key)
    assert file == tmp_path / "ven.csr"
    assert "PRIVATE" not in file.read_text()
    request = x509.load_pem_x509_csr(file.read_bytes())
    assert request.subject.rfc4514_string() == "CN=gpu-hall-1"
    said = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-in", file], capture_output=True, text=True
    )
    assert "verify OK" in said.stdout + said.stderr


def test_a_request_is_made_once_and_only_for_its_key_and_name(tmp_path):
    key, other = tmp_path / "ven.key", tmp_path / "other.key"
    for each in (key, other):
        make_key(each, KeyKind.ECC)
    assert make_request(key, "hall")
    before = request_file(key).read_bytes()
    assert not make_request(key, "hall")
    assert request_file(key).read_bytes() == before
    with pytest.raises(CommandError, match="is for 'hall', the VEN is 'stall'"):
        make_request(key, "stall")
    make_request(other, "hall")
    request_file(other).rename(request_file(key))
    with pytest.raises(CommandError, match="is the request for another key"):
        make_request(key, "hall")
    request_file(key).write_text("precious")
    with pytest.raises(CommandError, match="holds no signing request: move it away"):
        make_request(key, "hall")
    assert request_file(key).read_text() == "precious"


def test_a_name_that_no_certificate_can_carry(tmp_path):
    key = tmp_path / "ven.key"
    make_key(key, KeyKind.ECC)
    with pytest.raises(CommandError, match="at most 64 characters"):
        make_request(key, "n" * 65)


def test_a_key_that_cannot_be_read(tmp_path):
    key = tmp_path / "ven.key"
    key.write_text("nonsense")
    with pytest.raises(CommandError, match="holds no private key that can be used"):
        make_request(key, "hall")
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        kind_of(tmp_path / "none")


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_a_certificate_is_known_by_openadrs_fingerprint(tmp_path, kind):
    authority = Authority(tmp_path)
    pair, other = authority.issue("ven", kind), authority.issue("other", kind)
    read = read_certificate(pair.cert)
    assert read.fingerprint == certificate_fingerprint(pair.cert.read_text())
    said = subprocess.run(
        ["openssl", "x509", "-in", pair.cert, "-noout", "-sha256", "-fingerprint"],
        capture_output=True,
        text=True,
    ).stdout
    assert said.strip().lower() == f"sha256 fingerprint={read.sha256.lower()}"
    assert (read.subject, read.issuer, read.names) == ("ven", "test ca", ("ven",))
    assert certifies(read, pair.key)
    assert not certifies(read, other.key)


def test_of_a_chain_the_first_certificate_is_the_vens(tmp_path):
    authority = Authority(tmp_path)
    pair = authority.issue("ven", "ecc")
    pair.cert.write_text("some words\n" + pair.cert.read_text() + authority.ca.read_text())
    assert read_certificate(pair.cert).subject == "ven"


@pytest.mark.parametrize("text", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_what_is_no_certificate(tmp_path, text):
    file = tmp_path / "ven.crt"
    file.write_text(text)
    with pytest.raises(CommandError, match="holds no certificate"):
        read_certificate(file)


def test_a_certificate_of_a_kind_that_nobody_knows(tmp_path):
    pair = Authority(tmp_path).issue("ven")
    pair.cert.write_bytes(pair.of_unknown_kind)
    with pytest.raises(CommandError, match="holds no certificate"):
        read_certificate(pair.cert)
