"""Stories of end-to-end about the virtio console. Each gets a Host."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from state_stories import LIMIT_S, check, receive, send


def machine(host, name, guest, more=""):
    return f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest(guest)}"\nenable = false\n{more}'


class Terminal:
    """A person at the virtio console of a VM, with a terminal of some size."""

    def __init__(self, host, vm, columns, rows):
        self.text = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            self.size_of(0, columns, rows)
            os.execv(host.vmctl, [host.vmctl, "-s", host.socket, "console", "-p", "virtio", vm])

    @staticmethod
    def size_of(terminal, columns, rows):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        self.size_of(self.terminal, columns, rows)  # the kernel sends SIGWINCH
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def until(self, pattern):
        end = time.monotonic() + LIMIT_S
        while not re.search(pattern, self.text):
            check(time.monotonic() < end, f"no {pattern!r}: {self.text!r}")
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.text += os.read(self.terminal, 4096).decode(errors="replace")

    def leave(self):
        self.type("\r~.")
        with contextlib.suppress(OSError):
            while os.read(self.terminal, 4096):
                pass
        check(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0, "exit status")
        os.close(self.terminal)


def test_virtio_console(host):
    """Both ways, the terminal's size and its changes; over a save; kept in a log of its own."""
    host.run(machine(host, "a", "line", "virtio_console = true\nconsole_log = true\n") +
             machine(host, "b", "idle") + machine(host, "c", "line"), "--debug-exit")
    host.ctl("start", "a")
    host.console("a", "line: ready")
    person = Terminal(host, "a", 132, 43)
    person.until("line: ready")  # what was said before comes first
    person.until("size 132x43\n")
    person.type("hello there")
    person.until("hello there")
    person.resize(81, 25)
    person.until("size 81x25\n")
    person.leave()
    path = host.path("a.state")
    send(host, "a", path)
    receive(host, "a", path)
    person = Terminal(host, "a", 100, 30)
    person.until("size 100x30\n")
    check("ready" not in person.text, "it began anew")
    person.type("and again")
    person.until("and again")
    person.type("q")
    person.until("the guest has ended")
    os.waitpid(person.pid, 0)
    note = host.stopped("a")["note"]
    check("exit code 0" in note, note)
    with open(host.path("console/a.log.virtio")) as log:
        said = log.read()
    check("size 132x43" in said and "and againq" in said, said)
    with open(host.path("console/a.log")) as log:  # 11 and a carriage return, 9 and the q
        said = log.read()
    check("line: 22 bytes heard" in said, said)
    done = host.ctl("console", "-p", "virtio", "a", status=1)
    check("vm a is not running" in done.stderr, done.stderr)
    host.ctl("start", "b")
    done = host.ctl("console", "-p", "virtio", "b", status=1)
    check("vm b has no virtio console" in done.stderr, done.stderr)
    host.ctl("start", "c")  # nor does its guest find one
    end = time.monotonic() + LIMIT_S
    while "vm c: its console: FAIL no PCI function" not in host.logged():
        check(time.monotonic() < end, "the guest found a console")
        time.sleep(0.05)


NEEDS_KVM = {"virtio_console"}
