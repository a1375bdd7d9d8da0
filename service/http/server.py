"""uvicorn around the application: addresses, signals, draining, and the exit code."""

import contextlib
import faulthandler
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bundle.built_in import find_bundle
from bundle.reader import BundleError, read_bundle
from service.http import connections
from service.http.app import create_app
from service.http.keys import KeyFileError
from service.http.signals import Signals
from service.observability import logs
from service.observability.exposition import serve_apart
from service.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 2048  # uvicorn's own default, which it sets again
# What ending workers and threads may take after the grace, before the process ends all the same.
_END_SECONDS = 5.0


class _StartError(Exception):
    """The service cannot be started; the text says why and what to do."""


class _Server(uvicorn.Server):
    """uvicorn with our way of ending.

    The first SIGTERM, SIGINT or SIGQUIT, or the end of the terminal, makes readiness fail; accepted
    requests finish while new ones are answered 503, and when the last is answered, or the grace is
    over, the process ends. A second of the signals ends it at once. uvicorn itself would stop
    listening first, so that new requests are not answered at all, and raise the signal again after
    a clean end, which makes every supervisor believe that the service was killed.
    """

    app: FastAPI
    settings: Settings
    signals: Signals
    failed: str | None = None
    _draining_since: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._draining_since is not None:
            # Decode workers die with us; threads in an inference must not be waited for.
            os._exit(128 + sig)
        self._drain(sig)

    def _drain(self, sig: int) -> None:
        self._draining_since = time.monotonic()
        self.app.state.pipeline.draining = True
        # Whatever hangs, also outside of Python: the end comes from a thread that needs no turn.
        faulthandler.dump_traceback_later(
            self.settings.shutdown_grace_seconds + _END_SECONDS, exit=True, file=sys.stderr
        )
        logger.info("shutting down", extra={"signal": signal.Signals(sig).name})

    async def on_tick(self, counter: int) -> bool:
        # Both the shell and the kernel may tell of the same terminal, and neither is in a hurry.
        if self.signals.terminal_closed() and self._draining_since is None:
            self._drain(signal.SIGHUP)
        if self._draining_since is not None and not self.should_exit:
            passed = time.monotonic() - self._draining_since
            left = self.settings.shutdown_grace_seconds - passed
            idle = self.app.state.pipeline.admission.requests == 0
            if left <= 0 or (idle and passed >= self.settings.shutdown_notice_seconds):
                # For answers that are on their way; what is cancelled then has had its grace.
                self.config.timeout_graceful_shutdown = max(1, round(left))
                self.should_exit = True
        return await super().on_tick(counter)

    def fail(self, reason: str) -> None:
        self.failed = reason
        self.should_exit = True


def serve(settings: Settings) -> int:
    """Serve until told to stop; returns the process's exit code."""
    logs.set_up(settings.log_format, settings.log_level)
    signals = Signals()
    signals.install()
    try:
        with contextlib.ExitStack() as held:
            server = _server(settings, signals)
            listener = held.enter_context(_listen(settings.host, settings.port))
            _check_address(listener, server.app, settings)
            if settings.metrics_port is not None:
                held.enter_context(_metrics_apart(server.app, settings.host, settings.metrics_port))
            _announce(listener, server.app)
            signal.signal(signal.SIGQUIT, server.handle_exit)  # the others are uvicorn's to set
            server.run(sockets=[listener])
    except _StartError as error:
        logger.critical("cannot start", extra={"reason": str(error)})
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()
    if server.failed:
        return 1
    logger.info("stopped")
    return 0


def _server(settings: Settings, signals: Signals) -> _Server:
    try:
        bundle = read_bundle(find_bundle(settings.bundle))
        app = create_app(bundle, settings, on_failed_start=lambda reason: server.fail(reason))
    except BundleError as error:
        raise _StartError(f"the bundle cannot be served: {error}") from None
    except KeyFileError as error:
        raise _StartError(str(error)) from None
    connections.make_room(settings.max_connections)
    server = _Server(
        uvicorn.Config(
            app,
            http=connections.guarded(settings.max_connections, settings.header_timeout_seconds),
            ws="auto",
            ws_max_size=settings.stream_max_message_bytes,
            # A client that sends a film at once is read as fast as the film is shown: its pong lies
            # behind what is not read yet. The idle timeout of streams finds a client that is gone.
            ws_ping_timeout=None,
            # What is compressed already would be compressed for nothing, and unpacked without end.
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            # uvicorn's own believes anybody on this machine; see LOOKWHEN_TRUSTED_PROXIES.
            proxy_headers=False,
        )
    )
    server.app, server.settings, server.signals = app, settings, signals
    return server


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything is warmed, so that a taken port ends the start at once."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # From the moment that the log says so; who comes before the server accepts must wait, not
        # be refused.
        listener.listen(_BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise _StartError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def _check_address(listener: socket.socket, app: FastAPI, settings: Settings) -> None:
    """Refuse an address that strangers can reach where nobody is asked for a key."""
    address = ipaddress.ip_address(listener.getsockname()[0])
    if address.is_loopback or app.state.keys.required:
        return
    if not settings.allow_public_without_key:
        raise _StartError(
            f"others can reach {address}, and nobody would be asked for a key. Make one with "
            "`lookwhen key NAME` and set LOOKWHEN_API_KEYS_FILE or LOOKWHEN_API_KEYS; or set "
            "LOOKWHEN_ALLOW_PUBLIC_WITHOUT_KEY=true where something in front keeps strangers out"
        )
    logger.warning("others can reach this address, and nobody is asked for a key")


@contextlib.contextmanager
def _metrics_apart(app: FastAPI, host: str, port: int) -> Iterator[None]:
    """Serve the metrics, and nothing else, at a port of their own."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(serve_apart(host, port, app.state.metrics.registry))
        except OSError as error:
            raise _StartError(f"cannot listen on {host} port {port}: {error.strerror}") from None
        logger.info("metrics", extra={"address": _url(host, port)})
        yield


def _announce(listener: socket.socket, app: FastAPI) -> None:
    manifest = app.state.pipeline.manifest
    logger.info(
        "listening",
        extra={
            "address": _url(*listener.getsockname()[:2]),
            "bundle": manifest.name,
            "version": manifest.version,
            "keys": len(app.state.keys),
        },
    )


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
