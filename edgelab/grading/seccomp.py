"""A seccomp filter: system calls that no notebook needs, and that would step around the sandbox's limits.

The filter is a classic BPF program (`struct sock_filter` of linux/filter.h), which bubblewrap loads before it starts
the kernel. Calls that reach for memory outside any process (System V shared memory, memfd, mounts of one's own in a new
user namespace) would escape the limits on memory; the others are doors into the operating system, closed because
nobody goes through them. Some calls are refused for some of their arguments alone:

- Sockets are for what has a network of its own in the sandbox, and can be counted (`edgelab.grading.footprint`):
  AF_VSOCK leads to the host of a virtual machine from everywhere, and AF_ALG to the system's own work.
- Memory that is shared and has no file stays when it is in no process's map any more, so that nobody's size shows it.
- A limit on core dumps of 1 is the only one that Linux takes for "none" where a program of the host's collects them
  (core(5), fs/coredump.c), so nobody may set another.
"""

import platform
import struct

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
CLONE_NEWUSER = 0x10000000
AF_UNIX, AF_INET, AF_NETLINK, NETLINK_ROUTE = 1, 2, 16, 0
SOL_SOCKET, SO_SNDBUF = 1, 7
MAP_SHARED, MAP_ANONYMOUS = 0x01, 0x20
RLIMIT_CORE = 4

# (x86-64, arm64) numbers, from asm/unistd_64.h and asm-generic/unistd.h.
_DENIED = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsopen": (430, 430),
    "io_setup": (206, 0),
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
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
# Answered as by an older Linux, so that a library takes its other way: clone3 hides its flags from a filter.
_MISSING = {"clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447)}
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of linux/audit.h

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; an argument takes 8 bytes
_IS, _IS_NOT, _HAS_BIT = "is", "is not", "has bit"
_ANOTHER_FAMILY = [(0, _IS_NOT, AF_UNIX), (0, _IS_NOT, AF_INET), (0, _IS_NOT, AF_NETLINK)]
# Calls that are refused where all tests (argument, kind, value) hold, and with which error.
_REFUSED = [
    # clone
    ((56, 220), [(0, _HAS_BIT, CLONE_NEWUSER)], EPERM),
    # mmap
    ((9, 222), [(3, _HAS_BIT, MAP_ANONYMOUS), (3, _HAS_BIT, MAP_SHARED)], EPERM),
    # prlimit64
    ((302, 261), [(1, _IS, RLIMIT_CORE)], EPERM),
    # setrlimit
    ((160, 164), [(0, _IS, RLIMIT_CORE)], EPERM),
    # setsockopt
    ((54, 208), [(1, _IS, SOL_SOCKET), (2, _IS, SO_SNDBUF)], EPERM),
    # socket: of netlink, zmq needs what lists the network's interfaces
    ((41, 198), _ANOTHER_FAMILY, EAFNOSUPPORT),
    ((41, 198), [(0, _IS, AF_NETLINK), (2, _IS_NOT, NETLINK_ROUTE)], EAFNOSUPPORT),
    # socketpair
    ((53, 199), _ANOTHER_FAMILY, EAFNOSUPPORT),
]


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
    for numbers, tests, error in _REFUSED:
        lines.append(_line(_EQUAL, numbers[column], no=2 * len(tests) + 2))
        for place, (argument, kind, value) in enumerate(tests):
            otherwise = 2 * (len(tests) - place) - 1  # instructions from here to the one behind the refusal
            lines.append(_line(_LOAD, _FIRST_ARGUMENT + 8 * argument))
            code = _ANY_BIT if kind == _HAS_BIT else _EQUAL
            lines.append(_line(code, value, **({"yes": otherwise} if kind == _IS_NOT else {"no": otherwise})))
        lines += [_line(_RETURN, _ERRNO | error), _line(_LOAD, _NUMBER)]
    return b"".join([*lines, _line(_RETURN, _ALLOW)])


def _line(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction; a comparison skips `yes` or `no` instructions."""
    return struct.pack("HBBI", code, yes, no, value)
