"""The frequency of the processor's time stamp counter, which an emulated machine shows its guest as its own.

The kernel tells it nowhere in general (`cpu MHz` of /proc/cpuinfo is the frequency of the moment), so it is measured:
a few bytes of code read the counter, and a clock that nobody corrects tells the time between.
"""

import ctypes
import errno
import mmap
import os
import time

from boxwright.errors import HostError

_FILE = "/sys/devices/system/cpu/cpu0/tsc_freq_khz"  # of kernels that some clouds patch
# rdtsc; shl rdx, 32; or rax, rdx; ret
_CODE = b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3"
MEASURED_S = 0.1
_TRIES = 16


def tsc_khz() -> int:
    """The frequency in kHz, to a few parts in a million. Takes a tenth of a second. Raises HostError."""
    try:
        with open(_FILE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return _measured()


def _measured() -> int:
    if os.uname().machine != "x86_64":
        cause = f"`{os.uname().machine}` has none"
        raise HostError("measure the time stamp counter", errno.ENOTSUP, cause=cause)
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError as error:
        raise HostError("measure the time stamp counter", error.errno or 0, cause="no page may be executed") from error
    page.write(_CODE)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    first_ns, first = _pair(read)
    time.sleep(MEASURED_S)
    last_ns, last = _pair(read)
    return round((last - first) * 1_000_000 / (last_ns - first_ns))


def _pair(read: "ctypes._FuncPointer") -> tuple[float, int]:
    """Clock in ns and counter at the same moment: of some tries, the one that was interrupted least."""
    best: tuple[int, float, int] | None = None
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        counter = int(read())
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        if best is None or after - before < best[0]:
            best = (after - before, (before + after) / 2, counter)
    assert best is not None
    return best[1], best[2]
