"""Those who wait for a process to be made: sockets to them, pid files, pidfds."""

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from boxwright.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from boxwright.runtime.options import CreateOptions, ExecOptions


def connect(path: str, what: str, pointer: str = "") -> socket:
    """A connected stream socket to `path`. Raises HostError."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise HostError(f"connect to the {what} `{path}`", error.errno or 22, path=path, pointer=pointer) from None
    return sock


def announce(options: "CreateOptions | ExecOptions", pid: int) -> None:
    """Write the pid file and send the pidfd, for whoever watches the process."""
    if options.pid_file:
        try:
            _write_pid_file(options.pid_file, pid)
        except OSError as error:
            raise HostError(f"write the pid file `{options.pid_file}`", error.errno or 0) from None
    if options.pidfd_socket:
        pidfd, sock = os.pidfd_open(pid), connect(options.pidfd_socket, "pidfd socket")
        try:
            sock.sendmsg([b"pidfd"], [(SOL_SOCKET, SCM_RIGHTS, pidfd.to_bytes(4, "little"))])
        finally:
            sock.close()
            os.close(pidfd)


def _write_pid_file(path: str, pid: int) -> None:
    """Renamed into place. In a directory of everybody's nobody can have put a link where it is written to."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, str(pid).encode())
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
