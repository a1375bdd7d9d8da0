"""uvicorn around the application: signals, draining, and the exit code."""

import ipaddress
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bundle.reader import BundleError, default_bundle_path, read_bundle
from service import logs
from service.app import create_app
from service.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048  # uvicorn's own default, which it sets again


class _Server(uvicorn.Server):
    """uvicorn with our way of ending.

    The first SIGTERM or SIGINT makes readiness fail and lets accepted requests finish, the second
    ends the process at once. uvicorn itself would raise the signal again after a clean end, which
    makes every supervisor believe that the service was killed.
    """

    app: FastAPI
    failed: str | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            # Decode workers die with us; threads in an inference must not be waited for.
            os._exit(128 + sig)
        self.app.state.pipeline.draining = True
        self.should_exit = True
        logger.info("shutting down", extra={"signal": signal.Signals(sig).name})

    def fail(self, reason: str) -> None:
        self.failed = reason
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Serve until told to stop; returns the process's exit code."""
    logs.set_up(settings.log_format, settings.log_level)
    try:
        bundle = read_bundle(settings.bundle or default_bundle_path())
    except BundleError as error:
        logger.critical("the bundle cannot be served", extra={"reason": str(error)})
        return 1
    server: _Server | None = None

    def fail(reason: str) -> None:
        assert server is not None
        server.fail(reason)

    app = create_app(bundle, settings, on_failed_start=fail)
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_seconds)),
        )
    )
    server.app = app
    try:
        sockets = [_listen(settings.host, settings.port)]
    except OSError as error:
        logger.critical(
            "cannot listen",
            extra={"host": settings.host, "port": settings.port, "reason": error.strerror},
        )
        return 1
    host, port = sockets[0].getsockname()[:2]
    logger.info(
        "listening",
        extra={
            "address": f"http://{f'[{host}]' if ':' in host else host}:{port}",
            "bundle": bundle.manifest.name,
            "version": bundle.manifest.version,
        },
    )
    if not ipaddress.ip_address(host).is_loopback:
        logger.warning("others can reach this address, and nobody is asked for a key")
    server.run(sockets=sockets)
    if server.failed:
        return 1
    logger.info("stopped")
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is warmed, so that a taken port ends the start at once."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # From the moment that the log says so; who comes before the server accepts must wait, not
        # be refused.
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
