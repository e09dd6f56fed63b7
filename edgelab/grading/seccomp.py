"""A seccomp filter: system calls that no notebook needs, and that would step around the sandbox's limits.

The filter is a classic BPF program (`struct sock_filter` of linux/filter.h), which bubblewrap loads before it starts
the kernel. Calls that reach for memory outside any process (System V shared memory, memfd, mounts of one's own in a new
user namespace) would escape the limits on memory; the others are doors into the operating system, closed because
nobody goes through them.
"""

import platform
import struct

EPERM, ENOSYS = 1, 38
CLONE_NEWUSER = 0x10000000

# (x86-64, arm64) numbers, from asm/unistd_64.h and asm-generic/unistd.h.
_DENIED = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
# Answered as by an older Linux, so that a library takes its other way: clone3 hides its flags from a filter.
_MISSING = {"clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447)}
_CLONE = (56, 220)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of linux/audit.h

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def program() -> bytes:
    """Return the filter for this machine, nothing where it is neither x86-64 nor arm64."""
    if platform.machine() not in _MACHINES:
        return b""
    column, machine = _MACHINES[platform.machine()]
    lines = [
        _line(_LOAD, _MACHINE),
        _line(_EQUAL, machine, yes=1),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
    ]
    if column == 0:  # x32: the same calls once more, with this bit set
        lines += [_line(_ANY_BIT, 0x40000000, no=1), _line(_RETURN, _KILL)]
    for calls, error in ((_DENIED, EPERM), (_MISSING, ENOSYS)):
        for numbers in calls.values():
            lines += [_line(_EQUAL, numbers[column], no=1), _line(_RETURN, _ERRNO | error)]
    lines += [
        _line(_EQUAL, _CLONE[column], no=3),
        _line(_LOAD, _FIRST_ARGUMENT),
        _line(_ANY_BIT, CLONE_NEWUSER, no=1),
        _line(_RETURN, _ERRNO | EPERM),
        _line(_RETURN, _ALLOW),
    ]
    return b"".join(lines)


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction; a comparison skips `yes` or `no` instructions."""
    return struct.pack("HBBI", code, yes, no, value)
