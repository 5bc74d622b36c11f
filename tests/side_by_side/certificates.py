"""The certificates of the cases, made anew for every run by openssl: the same files for both sides."""
import os
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
}


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=30)


def make(folder):
    """NAME.crt and NAME.key for each of CERTIFICATES, and ca.crl."""
    os.makedirs(folder)
    for name, (issuer, common_name, extensions) in CERTIFICATES.items():
        with open(os.path.join(folder, name + ".cnf"), "w", encoding="ascii") as file:
            file.write(CONFIG.format(name=common_name, extensions=extensions))
        if name == "rsa":
            openssl(folder, "genrsa", "-out", name + ".key", "2048")
        else:
            openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name + ".key")
        openssl(folder, "req", "-new", "-key", name + ".key", "-config", name + ".cnf", "-out", name + ".csr")
        by = ["-CA", issuer + ".crt", "-CAkey", issuer + ".key", "-CAcreateserial"] if issuer else ["-signkey", name + ".key"]
        openssl(folder, "x509", "-req", "-in", name + ".csr", *by, "-days", "2", "-sha256", "-extfile", name + ".cnf",
                "-extensions", "ext", "-out", name + ".crt")


    revoke(folder, "revoked")


REVOCATION = """[ca]
default_ca=one
[one]
database=index.txt
default_md=sha256
default_crl_days=2
"""


def revoke(folder, name):
    """ca.crl, which names one certificate."""
    found = subprocess.run(["openssl", "x509", "-in", name + ".crt", "-noout", "-serial"], cwd=folder, check=True,
                           stdout=subprocess.PIPE, timeout=30).stdout.decode()
    with open(os.path.join(folder, "index.txt"), "w", encoding="ascii") as file:
        file.write(f"R\t491231235959Z\t200101000000Z\t{found.strip().partition('=')[2]}\tunknown\t/CN={name}\n")
    with open(os.path.join(folder, "revocation.cnf"), "w", encoding="ascii") as file:
        file.write(REVOCATION)
    openssl(folder, "ca", "-gencrl", "-config", "revocation.cnf", "-keyfile", "ca.key", "-cert", "ca.crt", "-out", "ca.crl")


def copy(source, folder):
    for name in os.listdir(source):
        if name.endswith((".crt", ".key", ".crl")):
            shutil.copy(os.path.join(source, name), folder)
