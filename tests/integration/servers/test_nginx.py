"""Runs through nginx: its limits, its TLS, its closed connections, a backend that restarts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.programs import Program, free_port, running
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

pytestmark = pytest.mark.slow
QUIET: dict[str, Any] = {"progress": "none", "store": None}
Nginx = Callable[..., AbstractContextManager[str]]

CONF = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  {http}
  server {{
    listen 127.0.0.1:{port} {listen};
    {server}
    location / {{ proxy_pass http://127.0.0.1:{backend}; {location} }}
  }}
}}
"""


@pytest.fixture
def nginx(server: ScriptedServer, tmp_path: Path) -> Nginx:
    """A function: nginx before the scripted server, with the given settings, at this base URL."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    backend = int(server.url.rsplit(":", 1)[1].split("/")[0])

    @contextmanager
    def at(scheme: str = "http", **settings: str) -> Iterator[str]:
        port = free_port()
        given = {"http": "", "listen": "", "server": "", "location": "", **settings}
        conf = tmp_path / "nginx.conf"
        conf.write_text(CONF.format(folder=tmp_path, port=port, backend=backend, **given))
        command = [program, "-p", str(tmp_path), "-e", "stderr", "-c", str(conf)]
        with running(Program(command, port, tmp_path / "log")):
            yield f"{scheme}://127.0.0.1:{port}/v1"

    return at


def ask(signature: pn.Signature, url: str, rows: int, **options: Any) -> Any:
    predict = pn.Predict(signature, pn.LM("gpt-4o-mini", base_url=url, api_key="k"))
    return pn.run_parallel(predict, [f"row-{i}" for i in range(rows)], **QUIET | options)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("workers", ["auto", 20])
def test_no_row_is_lost_to_a_limit(
    nginx: Nginx, signature: pn.Signature, server: ScriptedServer, status: int, workers: Any
) -> None:
    with nginx(
        http="limit_req_zone $binary_remote_addr zone=all:1m rate=10r/s;",
        location=f"limit_req zone=all burst=3 nodelay; limit_req_status {status};",
    ) as url:
        df = ask(signature, url, 30, max_workers=workers)
    assert df["reason"].tolist() == [f"row-{i}" for i in range(30)]
    assert len(server.requests) == 30  # a refused request does not reach the backend


def test_no_row_is_lost_to_a_backend_that_restarts(
    nginx: Nginx, signature: pn.Signature, server: ScriptedServer
) -> None:
    server.delay_s = 0.05
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    back: list[ScriptedServer] = []

    def restart() -> None:
        while sum(server.attempts.values()) < 20:
            time.sleep(0.005)
        server.stop()
        time.sleep(4)
        back.append(ScriptedServer().start(port))

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        with nginx() as url:
            df = ask(signature, url, 80, max_workers=8)
    finally:
        thread.join(30)
        for scripted in back:
            scripted.stop()
    assert df["reason"].tolist() == [f"row-{i}" for i in range(80)]


def test_connections_that_nginx_closes_cost_no_attempt(
    nginx: Nginx, signature: pn.Signature, server: ScriptedServer
) -> None:
    with nginx(server="keepalive_requests 3;") as url:
        df = ask(signature, url, 100, max_workers=8)
    assert df["attempts"].eq(1).all()
    assert len(server.requests) == 100


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, str]:
    """A certificate that nobody knows, and nginx's settings with it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = (
        f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {cert}"
    )
    command = ["openssl", *made.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, f"ssl_certificate {cert}; ssl_certificate_key {key};"


def test_an_unknown_certificate_is_told_at_once_with_the_remedy(
    nginx: Nginx,
    signature: pn.Signature,
    server: ScriptedServer,
    certificate: tuple[Path, str],
) -> None:
    cert, settings = certificate
    with nginx("https", listen="ssl", server=settings) as url:
        began = time.monotonic()
        with pytest.raises(pn.RunStopped, match="SSL_CERT_FILE"):
            ask(signature, url, 30)
        assert time.monotonic() - began < 10
        assert server.requests == []
        # the remedy, in a process of its own, because certificates are read once
        code = (
            "import pardspy_nb as pn, sys\n"
            "p = pn.Predict('review -> reason', pn.LM('m', base_url=sys.argv[1], api_key='k'))\n"
            "df = pn.run_parallel(p, ['row-7'], progress='none', store=None)\n"
            "assert df['reason'].tolist() == ['row-7'], df\n"
        )
        env = {"SSL_CERT_FILE": str(cert)}
        subprocess.run([sys.executable, "-c", code, url], check=True, env={**os.environ, **env})
    assert len(server.requests) == 1


def test_http_where_https_is_spoken_is_told(
    nginx: Nginx, signature: pn.Signature, certificate: tuple[Path, str]
) -> None:
    with (
        nginx(listen="ssl", server=certificate[1]) as url,
        pytest.raises(pn.PardspyError, match="plain HTTP request was sent to HTTPS port"),
    ):
        ask(signature, url, 5)
