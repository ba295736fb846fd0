"""A TLS certificate that stands for an ed25519 key: the key, signed by itself. Pure.

Callers pin the key and look at nothing else, so the certificate is the same at every start and
never expires (RFC 5280 section 4.1.2.5: 99991231235959Z is "no well-defined expiration date").
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from overlay.ports import Secret

_FIRST_DAY = datetime(2020, 1, 1, tzinfo=UTC)
_NO_LAST_DAY = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def make_chain(key: Secret, *, name: str) -> bytes:
    """Private key and certificate in PEM, for an SSLContext. A secret: never on disk.

    `name` is for people who look at it.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    private = Ed25519PrivateKey.from_private_bytes(key.reveal())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(_FIRST_DAY)
        .not_valid_after(_NO_LAST_DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, None)
    )
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def key_in(certificate: bytes | None) -> bytes:
    """The raw ed25519 key in a certificate (DER); empty when it holds none."""
    with suppress(ValueError, TypeError):
        key = x509.load_der_x509_certificate(certificate or b"").public_key()
        if isinstance(key, Ed25519PublicKey):
            return key.public_bytes_raw()
    return b""
