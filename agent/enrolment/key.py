"""The VEN's private key, and the request to certify it.

Made once and never overwritten: a utility that has registered a certificate knows only its key.
"""

import os
import stat
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from agent.errors import CommandError

CREDENTIALS = Path("/run/credentials")
"""Where systemd shows a service copies of its files: nothing can be made there."""
LONGEST_NAME = 64
"""Characters of a certificate's common name (ub-common-name, RFC 5280 appendix A)."""


class KeyKind(StrEnum):
    """Keys that the profile accepts (2.0b rule 68: RSA from 2048 bits, ECC from 224 or 256)."""

    ECC = "ecc"
    RSA = "rsa"
    RSA_3072 = "rsa-3072"


def make_key(file: Path, kind: KeyKind) -> None:
    """Make a private key, readable by its owner only. Raises `CommandError`, also when there is one."""
    _check_folder(file)
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind is KeyKind.ECC:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 3072 if kind is KeyKind.RSA_3072 else 2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write_new(file, text, 0o600)


def key_fault(file: Path) -> str:
    """Why a private key is not well kept; empty when it is."""
    mode = stat.S_IMODE(file.stat().st_mode)
    return f"anybody may read it (mode {mode:04o}): chmod o-rwx {file}" if mode & 0o007 else ""


def read_key(file: Path) -> PrivateKeyTypes:
    """A private key. Raises `CommandError`."""
    try:
        return load_pem_private_key(file.read_bytes(), None)
    except PermissionError as error:
        said = "run this as root, or as the agent's user"
        raise CommandError(f"{file} cannot be read: {error.strerror}; {said}") from error
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        said = "holds no private key that can be used (PEM, not encrypted)"
        raise CommandError(f"{file} {said}") from error


def kind_of(file: Path) -> str:
    """What kind of key there is: `ECC P-256`, `RSA 2048`. Raises `CommandError`."""
    key = read_key(file)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
        return f"ECC {names.get(key.curve.name, key.curve.name)}"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPrivateKey) else type(key).__name__


def request_file(key: Path) -> Path:
    """Where the signing request for a key is: beside it."""
    return key.with_suffix(".csr")


def make_request(key_file: Path, name: str) -> bool:
    """Make the request to certify a key for a VEN name, unless it is there. Whether it was made.

    The common name is all that utilities' authorities take from it. Raises `CommandError` when what is
    there is anything else.
    """
    file, key = request_file(key_file), read_key(key_file)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CommandError(f"{key_file} is neither an ECC nor an RSA key, as the profile demands")
    if len(name) > LONGEST_NAME:
        said = f"a certificate's name has at most {LONGEST_NAME} characters; set ven_name"
        raise CommandError(f"VEN name {name!r} is too long: {said}")
    if file.exists():
        _check_request(file, key_file, name)
        return False
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    _write_new(file, signed.public_bytes(serialization.Encoding.PEM), 0o644)
    return True


def _check_request(file: Path, key_file: Path, name: str) -> None:
    again = "move it away, and `flexload enroll` makes it anew"
    try:
        request = x509.load_pem_x509_csr(file.read_bytes())
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"{file} holds no signing request: {again}") from error
    if request.public_key() != read_key(key_file).public_key():
        raise CommandError(f"{file} is the request for another key than {key_file}: {again}")
    names = [str(a.value) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [name]:
        raise CommandError(f"{file} is for {', '.join(names)!r}, the VEN is {name!r}: {again}")


def _check_folder(file: Path) -> None:
    """Raise `CommandError` when a folder is none to keep a private key in."""
    folder = file.absolute().parent
    if folder.is_relative_to(CREDENTIALS):
        raise CommandError(
            f"{folder} holds copies that systemd makes: name the folder of the files themselves, "
            "like --credentials /etc/flexload/credentials"
        )
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        made = f"; make it with `install -d -m 0700 {folder}`" if not folder.exists() else ""
        raise CommandError(
            f"{folder}, for the key, cannot be used: {error.strerror}{made}"
        ) from error
    if not stat.S_ISDIR(mode):
        raise CommandError(f"{folder}, for the key, is not a directory")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise CommandError(f"{folder} is no place for a key: anybody may write there (chmod o-w)")


def _write_new(file: Path, content: bytes, mode: int) -> None:
    """Write a file that was not there, or nothing at all."""
    try:
        number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(number, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(number)
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise CommandError(f"{file} cannot be written: {error.strerror}") from error
