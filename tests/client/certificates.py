"""A CA of a test's own, and servers of TLS that a secret as Kubernetes mounts it stands for."""

import datetime
import ipaddress
import os
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Ca:
    """Signs certificates; its own is the file `ca.pem` of its folder."""

    def __init__(self, folder, name="a CA of a test"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self._name, self._name, self._key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.path = self.folder / "ca.pem"
        self.path.write_bytes(self.pem)

    def issue(self, *names, begins=-DAY, ends=DAY):
        """A certificate and its key, as PEM, for DNS names, addresses and URIs."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self._name, _name(names[0]), key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now + begins).not_valid_after(now + ends)
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_san, names))), False)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _san(name):
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if name[0].isdigit():
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


class Secret:
    """Files as Kubernetes mounts a secret: links through `..data`, which is exchanged whole."""

    def __init__(self, folder, pair):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self._version = 0
        self.put(pair)
        self.cert, self.key = self.folder / "tls.crt", self.folder / "tls.key"
        for path in (self.cert, self.key):
            path.symlink_to(f"..data/{path.name}")

    def put(self, pair):
        """Other files take the place of those that are there, at once."""
        self._version += 1
        version = self.folder / f"..version{self._version}"
        version.mkdir()
        (version / "tls.crt").write_bytes(pair[0])
        (version / "tls.key").write_bytes(pair[1])
        link = self.folder / "..next"
        link.symlink_to(version.name)
        os.replace(link, self.folder / "..data")

    def options(self):
        return ["--tls-cert", self.cert, "--tls-key", self.key]
