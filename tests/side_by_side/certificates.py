"""The certificates of the cases, made anew for every run by openssl: the same files for both sides."""
import os
import re
import shutil
import subprocess

CONFIG = """[req]
distinguished_name=dn
prompt=no
[dn]
CN={name}
O=Side
[ext]
{extensions}
"""
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"
# name → (issuer, common name, extensions)
CERTIFICATES = {
    "ca": (None, "side by side", CA),
    "other-ca": (None, "another authority", CA),
    "server": ("ca", "example.com", "subjectAltName=DNS:example.com,DNS:*.example.com,IP:127.0.0.1"),
    "second": ("ca", "second.example", "subjectAltName=DNS:second.example"),
    "client": ("ca", "client", "subjectAltName=URI:spiffe://side/ns/a/sa/b,DNS:client.example"),
    "rsa": ("ca", "example.com", "subjectAltName=DNS:example.com"),  # the only one with such a key
    "revoked": ("ca", "revoked", "subjectAltName=URI:spiffe://side/ns/a/sa/revoked"),
    "stranger": ("other-ca", "stranger", "subjectAltName=URI:spiffe://other/stranger"),
    "intermediate": ("ca", "in between", CA),
    "deep": ("intermediate", "deep", "subjectAltName=DNS:deep.example"),  # the file holds the chain
    "other-name": ("ca", "other name", "subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:user@side.example"),
    "workload": ("ca", "workload", "subjectAltName=URI:spiffe://side/ns/w/sa/x,DNS:example.com"),
    "expired": ("ca", "expired", "subjectAltName=DNS:expired.example"),
    "must-staple": ("ca", "example.com", "subjectAltName=DNS:example.com\ntlsfeature=status_request"),
    "rsa-encipher": ("ca", "example.com", "subjectAltName=DNS:example.com\nkeyUsage=critical,keyEncipherment"),
}
RSA = ("rsa", "rsa-encipher")
PASSWORD = "secret"


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=30)


def make(folder):
    """NAME.crt and NAME.key for each of CERTIFICATES, revocation lists, stapled answers, a certificate and its key under a password."""
    os.makedirs(folder)
    for name, (issuer, common_name, extensions) in CERTIFICATES.items():
        with open(os.path.join(folder, name + ".cnf"), "w", encoding="ascii") as file:
            file.write(CONFIG.format(name=common_name, extensions=extensions))
        if name in RSA:
            openssl(folder, "genrsa", "-out", name + ".key", "2048")
        else:
            openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key")
        openssl(folder, "req", "-new", "-key", name + ".key", "-config", name + ".cnf", "-out", name + ".csr")
        by = ["-CA", issuer + ".crt", "-CAkey", issuer + ".key", "-CAcreateserial"] if issuer else ["-signkey", name + ".key"]
        openssl(folder, "x509", "-req", "-in", name + ".csr", *by, "-days", "2", "-sha256", "-extfile", name + ".cnf",
                "-extensions", "ext", "-out", name + ".crt")

    with open(os.path.join(folder, "revocation.cnf"), "w", encoding="ascii") as file:
        file.write(AUTHORITY)
    revoke(folder, "ca", "revoked")
    revoke(folder, "intermediate", None)
    join(folder, "ca-and-crl.crt", "ca.crt", "ca.crl")
    expire(folder, "expired")
    join(folder, "deep.crt", "deep.crt", "intermediate.crt")
    for name in ("server", "must-staple"):
        staple(folder, name)
    openssl(folder, "pkcs12", "-export", "-in", "second.crt", "-inkey", "second.key", "-out", "second.p12", "-passout", "pass:" + PASSWORD)
    openssl(folder, "ec", "-aes256", "-in", "second.key", "-out", "locked.key", "-passout", "pass:" + PASSWORD)


def join(folder, name, *parts):
    text = ""
    for part in parts:
        with open(os.path.join(folder, part), encoding="ascii") as file:
            text += file.read()
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        file.write(text)


AUTHORITY = """[ca]
default_ca=one
[one]
database=index.txt
new_certs_dir=.
serial=serial.txt
default_md=sha256
default_crl_days=2
policy=any
[any]
commonName=supplied
organizationName=optional
"""


def serial(folder, name):
    found = subprocess.run(["openssl", "x509", "-in", name + ".crt", "-noout", "-serial"], cwd=folder, check=True,
                           stdout=subprocess.PIPE, timeout=30).stdout.decode()
    return found.strip().partition("=")[2]


def index(folder, state, name):
    """The authority's list of one certificate: R it is revoked, V it is valid."""
    revoked = "200101000000Z" if state == "R" else ""
    with open(os.path.join(folder, "index.txt"), "w", encoding="ascii") as file:
        if name:
            file.write(f"{state}\t491231235959Z\t{revoked}\t{serial(folder, name)}\tunknown\t/CN={name}\n")


def revoke(folder, authority, name):
    """AUTHORITY.crl, which names one certificate, or none."""
    index(folder, "R", name)
    openssl(folder, "ca", "-gencrl", "-config", "revocation.cnf", "-keyfile", authority + ".key", "-cert", authority + ".crt",
            "-out", authority + ".crl")


def expire(folder, name):
    """NAME.crt once more, of a time that is over."""
    index(folder, "V", None)
    openssl(folder, "ca", "-batch", "-notext", "-create_serial", "-config", "revocation.cnf", "-keyfile", "ca.key", "-cert", "ca.crt",
            "-in", name + ".csr", "-out", name + ".crt", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z",
            "-extfile", name + ".cnf", "-extensions", "ext")


def staple(folder, name):
    """NAME.ocsp; NAME-endless.ocsp, which names no end; and NAME-old.ocsp, of a time that is over; its signature, which no server
    looks at, is broken by that."""
    index(folder, "V", name)
    for file, days in [(name + ".ocsp", ["-ndays", "2"]), (name + "-endless.ocsp", [])]:
        openssl(folder, "ocsp", "-index", "index.txt", "-rsigner", "ca.crt", "-rkey", "ca.key", "-CA", "ca.crt", "-issuer", "ca.crt",
                "-cert", name + ".crt", "-respout", file, *days)
    with open(os.path.join(folder, name + ".ocsp"), "rb") as file:
        answer = file.read()
    with open(os.path.join(folder, name + "-old.ocsp"), "wb") as file:
        file.write(re.sub(rb"(?<=\x18\x0f)\d{4}(?=\d{10}Z)", b"2020", answer))


def copy(source, folder):
    for name in os.listdir(source):
        if name.endswith((".crt", ".key", ".crl", ".p12", ".ocsp")):
            shutil.copy(os.path.join(source, name), folder)
