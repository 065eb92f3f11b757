"""An authority of the test's own, and certificates by it, made with the openssl command."""

import subprocess


class Authority:
    """Signs certificates; `path` is its own."""

    def __init__(self, directory, name="tests"):
        self.directory, self.name = directory, name
        self.path, self._key = directory / f"{name}-ca.pem", directory / f"{name}-ca.key"
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                 "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.path)  # fmt: skip

    def issue(self, file_name, subject, san="DNS:localhost,IP:127.0.0.1", kind="ec"):
        """(certificate, key) for a subject as `/O=Example/CN=client`."""
        certificate, key = (self.directory / f"{file_name}.{end}" for end in ("pem", "key"))
        request, extensions = (self.directory / f"{file_name}.{end}" for end in ("csr", "ext"))
        new = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        _openssl("req", "-new", *new, "-nodes", "-subj", subject, "-keyout", key, "-out", request)
        extensions.write_text(f"subjectAltName={san}\nbasicConstraints=CA:FALSE\n")
        _openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self._key, "-CAcreateserial", "-days", "30",
                 "-extfile", extensions, "-out", certificate)  # fmt: skip
        return certificate, key


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
