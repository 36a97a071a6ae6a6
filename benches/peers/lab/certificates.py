"""A root of the run's own, and a server's certificate from it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """The chain's one root, and what a server shows."""

    root: Path
    certificate: Path
    key: Path
    both: Path


def make_certificate(folder, names):
    """For a server with these names, each written as in an extension: `DNS:*.example`, `IP:127.0.0.1`."""
    found = Certificate(*(folder / name for name in ("root.pem", "certificate.pem", "key.pem", "both.pem")))
    root_key, request, extensions = folder / "root.key", folder / "request.pem", folder / "extensions"
    extensions.write_text(
        f"basicConstraints=CA:FALSE\nsubjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth\n"
    )
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for words in (
        ["req", "-x509", *curve, "-days", "30", "-subj", "/CN=root", "-keyout", root_key, "-out", found.root],
        ["req", *curve, "-subj", "/CN=server", "-keyout", found.key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", found.root, "-CAkey", root_key, "-CAcreateserial"]
        + ["-days", "30", "-extfile", extensions, "-out", found.certificate],
    ):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    found.both.write_text(found.certificate.read_text() + found.key.read_text())
    return found
