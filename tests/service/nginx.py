"""A real nginx with the configuration of deploy/nginx, on a free port, with its own certificate."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from service_server import ROOT, wait_for

CONFIGURATION = ROOT / "deploy" / "nginx" / "lookwhen.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_AROUND = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/lookwhen.conf;
}}
"""


class Nginx:
    """nginx in front of the service at ``upstream`` (host:port).

    Args:
        folder: for its configuration, certificate and temporary files.
        changes: further replacements in the shipped configuration, each of which must occur.
    """

    def __init__(self, folder: Path, upstream: str, changes: dict[str, str] | None = None) -> None:
        assert NGINX is not None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.certificate = _self_signed(folder)
        text = CONFIGURATION.read_text("utf-8")
        for old, new in {
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "server 127.0.0.1:8000;": f"server {upstream};",
            "/etc/nginx/tls": str(folder),
            **(changes or {}),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "lookwhen.conf").write_text(text, "utf-8")
        # Its workers would be somebody who cannot look into a test's folder.
        user = "user root;" if os.geteuid() == 0 else ""
        main = folder / "nginx.conf"
        main.write_text(_AROUND.format(folder=folder, user=user), "utf-8")
        self._log = folder / "nginx.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [NGINX, "-p", str(folder), "-c", str(main)], stderr=log, process_group=0
            )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext:
        """What a client needs that believes the certificate, and no other."""
        return ssl.create_default_context(cafile=self.certificate)

    def __enter__(self) -> Self:
        def answers() -> bool:
            assert self.process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                return False
            return True

        wait_for(answers, "nginx")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _self_signed(folder: Path) -> Path:
    certificate = folder / "lookwhen.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(folder / "lookwhen.key"), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate
