"""Whether KVM really runs code here: a virtual machine of one page, a virtual CPU, and six bytes in real mode.

This proves that /dev/kvm is usable and that the processor's extension works, and nothing more: a nested hypervisor
may still not run a whole kernel. See the kernel's Documentation/virt/kvm/api.rst.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import sys

DEVICE = "/dev/kvm"
TIMEOUT_SECONDS = 5
_GET_API_VERSION, _CREATE_VM, _GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
_CREATE_VCPU, _RUN, _SET_USER_MEMORY_REGION = 0xAE41, 0xAE80, 0x4020AE46
_GET_SREGS, _SET_SREGS, _GET_REGS, _SET_REGS = 0x8138AE83, 0x4138AE84, 0x8090AE81, 0x4090AE82
_SREGS_BYTES, _REGS_BYTES = 312, 144
_API_VERSION, _EXIT_HLT = 12, 5
_GUEST_ADDRESS, _PAGE_BYTES = 0x1000, 4096
_ANSWER = 0x2A17
_CODE = b"\xb8" + struct.pack("<H", _ANSWER) + b"\xf4"  # mov ax, imm16; hlt
_RIP_AT, _RFLAGS_AT = 16 * 8, 17 * 8


def run_guest() -> str:
    """Run the code; empty if the guest halted with the answer, else what went wrong. Raises OSError."""
    kvm = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        version = fcntl.ioctl(kvm, _GET_API_VERSION)
        if version != _API_VERSION:
            return f"speaks version {version} of the interface"
        vm = fcntl.ioctl(kvm, _CREATE_VM)
        try:
            return _run_in(kvm, vm)
        finally:
            os.close(vm)
    finally:
        os.close(kvm)


def _run_in(kvm: int, vm: int) -> str:
    memory = mmap.mmap(-1, _PAGE_BYTES)
    memory.write(_CODE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, _SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, _GUEST_ADDRESS, _PAGE_BYTES, address))
    vcpu = fcntl.ioctl(vm, _CREATE_VCPU, 0)
    try:
        shared = mmap.mmap(vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE))
        _set_registers(vcpu)
        fcntl.ioctl(vcpu, _RUN, 0)
        (reason,) = struct.unpack_from("<I", shared, 8)
        shared.close()
        registers = bytearray(_REGS_BYTES)
        fcntl.ioctl(vcpu, _GET_REGS, registers)
    finally:
        os.close(vcpu)
    (rax,) = struct.unpack_from("<Q", registers)
    if reason != _EXIT_HLT:
        return f"the guest left for the reason {reason} in place of halting"
    return "" if rax == _ANSWER else "the guest halted with a wrong result"


def _set_registers(vcpu: int) -> None:
    """Real mode, the code segment at 0, execution at the guest's page."""
    special = bytearray(_SREGS_BYTES)
    fcntl.ioctl(vcpu, _GET_SREGS, special)
    struct.pack_into("<Q", special, 0, 0)  # cs.base
    struct.pack_into("<H", special, 12, 0)  # cs.selector
    fcntl.ioctl(vcpu, _SET_SREGS, bytes(special))
    registers = bytearray(_REGS_BYTES)
    struct.pack_into("<Q", registers, _RIP_AT, _GUEST_ADDRESS)
    struct.pack_into("<Q", registers, _RFLAGS_AT, 2)
    fcntl.ioctl(vcpu, _SET_REGS, bytes(registers))


def try_guest() -> str:
    """As `run_guest`, in a process that is killed if the guest hangs; the empty text if it worked."""
    import subprocess

    parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    program = f"import sys; sys.path.insert(0, {parent!r}); from boxwright.host.kvm import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the guest did not halt within {TIMEOUT_SECONDS} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"the trial ended with status {done.returncode}"
    return done.stdout.strip()


def main() -> None:
    """Print what `run_guest` says, or the error of the kernel."""
    try:
        sys.stdout.write(run_guest())
    except OSError as error:
        sys.stdout.write(error.strerror or str(error))
