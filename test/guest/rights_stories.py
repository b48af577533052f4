"""Stories of end-to-end about what a role process may do. Each gets a Host."""

import collections
import ctypes
import os
import re
import signal
import time

LIMIT_S = 60.0
NEEDS_KVM = {"unprivileged_roles", "forbidden_call"}
SWITCH = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def machine(host, name, more=""):
    return f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest("interrupt")}"\n{more}'


def two_guests(host):
    """Each role's process ids, by its name."""
    host.run(SWITCH + machine(host, "a", 'interface = [{ switch = "lan" }]\n')
             + machine(host, "b"))
    roles = collections.defaultdict(list)
    for pid in host.processes():
        if pid != host.process.pid:
            roles[open(f"/proc/{pid}/cmdline").read().split("\0")[2]].append(pid)
    return roles


def test_unprivileged_roles(host):
    """Started as root, everything but the parent is not, sees no file, and has no rights."""
    roles = two_guests(host)
    check({name: len(pids) for name, pids in roles.items()} == {"control": 1, "dhcp": 1, "vm": 2},
          f"role processes: {roles}")
    users = collections.Counter()
    for name, pids in roles.items():
        for pid in pids:
            status = open(f"/proc/{pid}/status").read()
            found = re.search(r"^Uid:\t(?!0\b)(\d+)\t\1\t\1\t\1$", status, re.M)
            check(found, f"{name}: {status}")
            users[found.group(1)] += 1
            check("CapEff:\t0000000000000000" in status, f"{name} has capabilities")
            check("NoNewPrivs:\t1" in status, f"{name} may gain privileges")
            check("Seccomp:\t2" in status, f"{name} may make any system call")
            seen = os.listdir(f"/proc/{pid}/root")
            check(seen == [], f"{name} sees {seen}")
            links = open(f"/proc/{pid}/net/dev").read()
            check("lan" not in links and "if0" not in links, f"{name} sees {links}")
    check(sorted(users.values()) == [1, 1, 2], f"a VM shares its user: {users}")
    with open(f"/proc/{host.process.pid}/status") as file:
        sets = dict(re.findall(r"^Cap(Prm|Eff|Bnd):\t(\w+)$", file.read(), re.M))
    check(len(set(sets.values())) == 1, f"the parent may gain rights: {sets}")
    for bit, name in ((16, "modules"), (17, "raw memory"), (19, "tracing"), (22, "reboot"),
                      (25, "the clock"), (39, "BPF")):
        check(not int(sets["Eff"], 16) >> bit & 1, f"the parent may do {name}")


class Registers(ctypes.Structure):
    """struct user_regs_struct of x86-64 (sys/user.h)."""
    _fields_ = [(name, ctypes.c_ulonglong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
        "fs_base gs_base ds es fs gs").split()]


PTRACE_POKETEXT, PTRACE_CONT, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH = 4, 7, 12, 13, 16
SOCKET, EXECVE, MPROTECT, GETPID = 41, 59, 10, 39
SYSCALL_THEN_TRAP = 0xcc050f  # syscall; int3


def make_call(pid, number, *arguments):
    """What a taken-over process would do: a system call of our choice, made by its main thread.
    The signal it stops or ends with."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def trace(request, address, data):
        check(libc.ptrace(request, pid, address, data) >= 0,
              f"ptrace {request}: {os.strerror(ctypes.get_errno())}")

    trace(PTRACE_ATTACH, None, None)
    os.waitpid(pid, 0)
    registers = Registers()
    trace(PTRACE_GETREGS, None, ctypes.addressof(registers))
    trace(PTRACE_POKETEXT, registers.rip, SYSCALL_THEN_TRAP)
    registers.rax, registers.orig_rax = number, ctypes.c_ulonglong(-1).value
    for name, value in zip(("rdi", "rsi", "rdx"), arguments):
        setattr(registers, name, value)
    trace(PTRACE_SETREGS, None, ctypes.addressof(registers))
    trace(PTRACE_CONT, None, None)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WSTOPSIG(status)


def test_forbidden_call(host):
    """A role that is taken over dies of its first forbidden system call; the others go on."""
    roles = two_guests(host)
    check(make_call(roles["vm"][0], GETPID) == -signal.SIGTRAP, "getpid is no forbidden call")
    os.kill(roles["vm"][0], signal.SIGKILL)
    os.waitpid(roles["vm"][0], 0)
    for name, number, arguments in (("vm", EXECVE, (0, 0, 0)), ("dhcp", SOCKET, (2, 1, 0)),
                                    ("control", MPROTECT, (0, 4096, 7))):
        ended = make_call(roles[name][-1], number, *arguments)
        check(ended == signal.SIGSYS, f"{name} after system call {number}: {ended}")
    end = time.monotonic() + LIMIT_S
    while not (re.search(r"vm b.*signal 31", host.logged())
               and host.ctl("status", status=None).returncode == 0):
        check(time.monotonic() < end, "the end of vm b is not told, or control is not back")
        time.sleep(0.05)
