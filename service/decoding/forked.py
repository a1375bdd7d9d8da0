"""A child of this process that another one started."""

import os
import select
import signal
import subprocess
import threading


class ForkedProcess:
    """A process that a zygote forked and this one adopted; as much of ``Popen`` as it takes.

    Attributes:
        pid: its number, which is nobody else's before :meth:`wait` has returned.
        returncode: its exit status, or minus the signal that ended it; None until then.

    Raises:
        OSError: there is no such child.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def kill(self) -> None:
        """End it at once; nothing happens where it has ended.

        Raises:
            ProcessLookupError: it ended just now.
        """
        with self._lock:
            if self.returncode is None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Block until it has ended, on whatever thread; its exit status.

        Raises:
            subprocess.TimeoutExpired: ``timeout`` seconds have passed.
        """
        with self._lock:
            if self.returncode is not None:
                return self.returncode
        ended = select.poll()
        ended.register(self._descriptor, select.POLLIN)
        if not ended.poll(None if timeout is None else 1000 * timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        with self._lock:
            if self.returncode is None:
                try:
                    _, status = os.waitpid(self.pid, 0)
                    self.returncode = os.waitstatus_to_exitcode(status)
                except ChildProcessError:  # a host program waits for each child that it has
                    self.returncode = 0
                os.close(self._descriptor)
            return self.returncode
