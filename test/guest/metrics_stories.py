"""Stories of end-to-end about what the daemon counts, tells systemd and watches. Each gets a Host."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time

LIMIT_S = 60.0
NEEDS_KVM = {"metrics", "metrics_of_an_owner", "silent_vm", "silent_services", "dead_services"}
PORT = 9123
SWITCH = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'
METRICS = f'[metrics]\nlisten = ["127.0.0.1:{PORT}"]\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def wait_until(condition, what):
    end = time.monotonic() + LIMIT_S
    while True:
        result = condition()
        if result:
            return result
        check(time.monotonic() < end, f"waited {LIMIT_S:.0f} s for {what}")
        time.sleep(0.05)


def machine(host, name, more="", guest="interrupt"):
    return f'[vm.{name}]\nmemory = "16M"\nboot = "{host.guest(guest)}"\n{more}'


def request(path="/metrics", method="GET", address="127.0.0.1", port=PORT):
    """(status, type, body)"""
    connection = http.client.HTTPConnection(address, port, timeout=LIMIT_S)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()


NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
VALUE = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"


def parse(text):
    """The exposition format, strictly: {name: (type, {labels: value})}. Families come once and
    whole, each with HELP and TYPE before its samples, each sample once."""
    check(text.endswith("\n"), "the last line has no end")
    families = {}
    lines = text.split("\n")[:-1]
    at = 0
    while at < len(lines):
        helped = re.fullmatch(rf"# HELP ({NAME}) (\S.*)", lines[at])
        typed = re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", lines[at + 1])
        check(helped and typed and helped[1] == typed[1], f"no head: {lines[at:at + 2]}")
        name, kind, samples = typed[1], typed[2], {}
        check(name not in families, f"{name} is there twice")
        check(name.startswith("vmhost_") and name.endswith("_total") == (kind == "counter"), name)
        at += 2
        while at < len(lines) and not lines[at].startswith("#"):
            sample = re.fullmatch(rf"{name}(?:\{{({LABEL}(?:,{LABEL})*)\}})? ({VALUE})", lines[at])
            check(sample, f"no sample of {name}: {lines[at]}")
            check(sample[1] not in samples, f"twice: {lines[at]}")
            samples[sample[1]] = float(sample[2])
            at += 1
        check(samples, f"{name} has no samples")
        families[name] = (kind, samples)
    return families


def value(families, name, labels=None):
    check(name in families, f"no {name} in {sorted(families)}")
    check(labels in families[name][1], f"no {labels} of {name}: {families[name][1]}")
    return families[name][1][labels]


def scrape():
    status, kind, text = request()
    check(status == 200, f"status {status}")
    check(kind == "text/plain; version=0.0.4; charset=utf-8", kind)
    return parse(text)


def pids_of(host, role):
    return [pid for pid in host.processes()
            if f"\0{role}\0".encode() in open(f"/proc/{pid}/cmdline", "rb").read()]


def test_metrics(host):
    """The page, what else is on its port, and what vmctl says of the same."""
    host.run(SWITCH + METRICS
             + machine(host, "a", 'interface = [{ switch = "lan", ipv4 = "10.9.8.10" }]\n', "net")
             + '[vm.a.install]\nuser = "alice"\nsshkey = "ssh-ed25519 AAAA x"\n'
             + machine(host, "b") + machine(host, "c", "enable = false\n"))
    host.console("a", "System hostname")
    host.ctl("pause", "b")
    time.sleep(1.1)  # the page may be a second old
    page = scrape()
    check([value(page, "vmhost_vms", f'state="{state}"') for state in
           ("running", "paused", "stopped", "waiting", "stopping")] == [1, 1, 1, 0, 0], "states")
    check(value(page, "vmhost_vm_up", 'vm="a"') == 1, "a is up")
    check(value(page, "vmhost_vm_up", 'vm="c"') == 0, "c is not")
    check('vm="c"' not in page["vmhost_vm_exits_total"][1], "a stopped VM counts nothing")
    check(value(page, "vmhost_vm_memory_bytes", 'vm="a"') == 16 << 20, "its memory")
    check(value(page, "vmhost_vm_resident_memory_bytes", 'vm="a"') > 1 << 20, "what it uses")
    check(value(page, "vmhost_vm_cpu_seconds_total", 'vm="a"') > 0, "its processor time")
    check(value(page, "vmhost_vm_exits_total", 'vm="a",kind="port"') > 10, "its exits")
    check(value(page, "vmhost_vm_interface_sent_frames_total", 'vm="a",interface="0"') > 2, "sent")
    check(value(page, "vmhost_vm_interface_received_bytes_total", 'vm="a",interface="0"') > 500,
          "received")
    check(value(page, "vmhost_dhcp_messages_total", 'outcome="acknowledged"') >= 1, "its lease")
    check(value(page, "vmhost_http_responses_total", 'listener="install",code="200"') == 1,
          "its answer file")
    for role in ("parent", "control", "dhcp", "http"):
        check(value(page, "vmhost_role_up", f'role="{role}"') == 1, role)
        check(value(page, "vmhost_role_restarts_total", f'role="{role}"') == 0, role)
        check(value(page, "vmhost_role_resident_memory_bytes", f'role="{role}"') > 1 << 20, role)

    # The listener for metrics has nothing else, and the one for guests has no metrics.
    for path in ("/", "/install.conf", "/metrics/", "/metricsx"):
        check(request(path)[0] == 404, path)
    check(request(address="10.9.8.1", port=80)[0] == 404, "metrics for guests")
    check(request(method="POST")[0] == 405, "POST")
    status, kind, body = request(method="HEAD")
    check(status == 200 and kind.startswith("text/plain; version=0.0.4") and not body, "HEAD")
    check(request("/metrics?x=1")[0] == 200, "a query changes nothing")

    # However many ask, it is gathered once a second.
    began, pages = time.monotonic(), set()
    for _ in range(100):
        pages.add(request()[2])
    check(len(pages) <= time.monotonic() - began + 2, f"{len(pages)} gatherings")

    # The same by vmctl, in both forms.
    time.sleep(1.1)
    page = scrape()
    text, listed = parse(host.ctl("metrics").stdout), json.loads(host.ctl("metrics", "--json").stdout)
    check(list(text) == list(page) == [family["name"] for family in listed], "the same families")
    for family in listed:
        kind, samples = page[family["name"]]
        check(family["type"] == kind and len(family["help"]) > 5, family["name"])
        labels = [",".join(f'{name}="{of}"' for name, of in one["labels"].items()) or None
                  for one in family["samples"]]
        check(labels == list(samples) == list(text[family["name"]][1]), f"{family} {samples}")
    of_a = parse(host.ctl("metrics", "a").stdout)
    check(all(set(samples) == {labels for labels in samples if labels.startswith('vm="a"')}
              for _, samples in of_a.values()) and "vmhost_vm_up" in of_a, f"{of_a}")
    check("not found" in host.ctl("metrics", "nobody", status=1).stderr, "of no VM")
    requests = value(page, "vmhost_control_requests_total")
    plans = subprocess.run([host.binary, "plan", "-f", host.path("vmhost.toml")],
                           capture_output=True, text=True, timeout=LIMIT_S)
    check(plans.returncode == 0, plans.stderr)
    host.ctl("reload")
    time.sleep(1.1)
    page = scrape()
    check(value(page, "vmhost_control_requests_total") > requests, "requests are counted")
    check(value(page, "vmhost_plans_total") >= 1, "plans are counted")
    check(value(page, "vmhost_applies_total", 'result="done"') == 1, "applies are counted")

    # Off again, by the file: nobody listens, and guests do not notice.
    before = host.row("a")["pid"]
    text = open(host.path("vmhost.toml")).read()
    with open(host.path("vmhost.toml"), "w") as out:
        out.write(text.replace(METRICS, ""))
    host.ctl("reload")
    with contextlib.suppress(ConnectionError):
        request()
        raise AssertionError("somebody still listens")
    check(host.row("a")["pid"] == before, "the guest suffered")
    check(parse(host.ctl("metrics", "a").stdout), "vmctl needs no listener")


def test_metrics_without_vms(host):
    """No VM, no installer: the HTTP role runs for the metrics alone, and opens no other port."""
    host.run(SWITCH.replace('ipv4', 'dhcp = false\nipv4') + METRICS)
    page = scrape()
    check(value(page, "vmhost_vms", 'state="running"') == 0, "no VM")
    check("vmhost_vm_up" not in page, "nothing of VMs")
    with contextlib.suppress(ConnectionError):
        request(address="10.9.8.1", port=80)
        raise AssertionError("somebody listens on port 80")


def test_metrics_of_an_owner(host):
    """Root reads everything, an owner what is about his VMs, others nothing."""
    host.run(machine(host, "a", 'owner = "nobody"\n') + machine(host, "b"))
    os.chmod(host.socket, 0o666)

    def metrics(user, *words):
        return subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
                               host.vmctl, "-s", host.socket, "metrics", *words],
                              capture_output=True, text=True, timeout=LIMIT_S)
    check("vmhost_role_up" in host.ctl("metrics").stdout, "root")
    own = parse(metrics(65534).stdout)
    check(own["vmhost_vm_up"][1] == {'vm="a"': 1.0}, f"{own}")
    check(all(name.startswith("vmhost_vm_") for name in own), f"{sorted(own)}")
    check(metrics(65534, "a").returncode == 0, "his own VM")
    refused = metrics(65534, "b")
    check(refused.returncode == 1 and "for its owner root" in refused.stderr, f"{refused}")
    time.sleep(1.1)
    page = parse(host.ctl("metrics").stdout)
    check(value(page, "vmhost_control_refusals_total", 'verb="metrics"') == 1, "refusals")
    others = metrics(12345)
    check(others.returncode == 0 and others.stdout == "", f"{others}")


def run_watched(host, text):
    host.host_keys = 'answer_timeout = "1s"\n'
    return host.run(text)


def test_silent_vm(host):
    """A VM process that does not answer is told of once, answers again, and can be ended."""
    run_watched(host, machine(host, "a") + machine(host, "b"))
    host.console("a", "type a line")
    pid = host.row("a")["pid"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: "vm a: its process has not answered for 1s" in host.logged(), "the report")
    check(host.row("a")["note"] == "its process does not answer", f"{host.row('a')}")
    check(host.row("a")["state"] == "running", "it is left alone")
    check(value(parse(host.ctl("metrics").stdout), "vmhost_vm_answers", 'vm="a"') == 0, "metric")
    time.sleep(2)
    check(host.logged().count("has not answered") == 1, "told more than once")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: "vm a: its process answers again" in host.logged(), "its answer")
    check(host.row("a")["note"] == "" and host.row("a")["pid"] == pid, f"{host.row('a')}")
    time.sleep(1.1)
    check(value(parse(host.ctl("metrics").stdout), "vmhost_vm_answers", 'vm="a"') == 1, "metric")
    host.console("a", "hello there", stdin="hello there")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: host.logged().count("has not answered") == 2, "the second report")
    check(host.ctl("stop", "-fw", "a").stderr.endswith("terminated vm 1\n"), "stop -f")
    check(host.row("a")["state"] == "stopped" and not os.path.exists(f"/proc/{pid}"), "ended")
    check("vm b: its process" not in host.logged(), "the other one")
    # Before anybody has noticed: the process is told, and killed when it does not obey.
    pid = host.row("b")["pid"]
    os.kill(pid, signal.SIGSTOP)
    host.ctl("stop", "-fw", "b")
    check(host.row("b")["state"] == "stopped" and not os.path.exists(f"/proc/{pid}"), "ended")
    events = host.ctl("events", "a").stdout
    check(events.count("silent") == 2 and events.count("answers") == 1, events)
    host.ctl("start", "a")
    host.console("a", "type a line")


def test_silent_services(host):
    """A service that does not answer is ended and started again; guests do not notice."""
    run_watched(host, SWITCH + METRICS + machine(host, "a", 'interface = [{ switch = "lan" }]\n'))
    before = host.row("a")["pid"]
    for role in ("dhcp", "http", "control"):
        [pid] = pids_of(host, role)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: f"{role}: its process does not answer; starting it again"
                   in host.logged(), f"{role} to be found silent")
        wait_until(lambda: pids_of(host, role) and pids_of(host, role) != [pid], f"another {role}")

    def restarts():
        with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
            page = scrape()
            return all(value(page, "vmhost_role_restarts_total", f'role="{role}"') == 1 and
                       value(page, "vmhost_role_up", f'role="{role}"') == 1
                       for role in ("dhcp", "http", "control"))
    wait_until(restarts, "three restarts to be counted")
    check(host.row("a")["pid"] == before, "the guest suffered")
    check(host.end() == 0, "the end")


def test_dead_services(host):
    """A service that dies is started again, later each time."""
    host.run(SWITCH + METRICS + machine(host, "a", 'interface = [{ switch = "lan" }]\n'))
    before = host.row("a")["pid"]
    for role in ("dhcp", "http", "control", "http"):
        # Up, or the next one would be hit while it starts.
        pid = wait_until(lambda: pids_of(host, role), role)[0]
        wait_until(lambda: scrape_works() if role == "http" else True, "the page")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pids_of(host, role) and pids_of(host, role) != [pid], f"another {role}")
    wait_until(scrape_works, "the page")
    page = scrape()
    check([value(page, "vmhost_role_restarts_total", f'role="{role}"')
           for role in ("dhcp", "http", "control", "parent")] == [1, 2, 1, 0], "restarts")
    check(host.logged().count("signal 9; starting it again") == 4, host.logged())
    check(host.row("a")["pid"] == before, "the guest suffered")


def scrape_works():
    with contextlib.suppress(OSError, http.client.HTTPException):
        return scrape()


class Manager:
    """systemd's end of sd_notify."""

    def __init__(self, host, abstract):
        self.name = "@vmhost-e2e" if abstract else host.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:] if abstract else self.name)
        self.socket.settimeout(LIMIT_S)

    def drain(self):
        said = []
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(self.socket.recv(4096).decode())
        self.socket.settimeout(LIMIT_S)
        return said

    def until(self, pattern):
        """Everything up to the first datagram that matches."""
        said = []
        while not said or not re.match(pattern, said[-1]):
            said.append(self.socket.recv(4096).decode())
        return said


@contextlib.contextmanager
def environment(**names):
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def test_service_manager(host):
    """READY after the start, RELOADING around a reload, STOPPING; WATCHDOG while the loop turns."""
    with open(host.log_path, "w") as log:
        stream = os.fstat(log.fileno())
    for abstract in (False, True):
        manager = Manager(host, abstract)
        with environment(NOTIFY_SOCKET=manager.name, WATCHDOG_USEC="200000",
                         JOURNAL_STREAM=f"{stream.st_dev}:{stream.st_ino}"):
            host.run(SWITCH)
        said = manager.until("READY=1\n")
        check("STATUS=starting" in said and not any("STOPPING" in one for one in said), f"{said}")
        check(re.search(r"^<5>parent host: up: 0 VMs", host.logged(), re.M), "the journal's form")
        check(all(re.match(r"<[3-7]>\w+ \w+: ", line) for line in host.logged().splitlines()),
              f"a line without its level: {host.logged()}")
        for _ in range(3):
            manager.until("WATCHDOG=1$")
        host.process.send_signal(signal.SIGHUP)
        said = manager.until(r"RELOADING=1\nMONOTONIC_USEC=[1-9]\d*\n")
        now_us = time.monotonic_ns() // 1000
        check(0 <= now_us - int(re.search(r"USEC=(\d+)", said[-1])[1]) < 60e6, said[-1])
        manager.until("READY=1\n")
        # A loop that does not turn says nothing.
        host.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "\nState:\tT" in open(f"/proc/{host.process.pid}/status").read(), "stop")
        manager.drain()
        time.sleep(1)
        check(manager.drain() == [], "a stopped daemon is alive")
        host.process.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG=1$")
        host.process.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1\n")
        check(host.process.wait(LIMIT_S) == 0, "exit status")
        manager.socket.close()
    # Another stream, another manager's watchdog, nobody there: it runs all the same.
    with environment(NOTIFY_SOCKET="/nowhere/notify", WATCHDOG_USEC="200000", WATCHDOG_PID="1",
                     JOURNAL_STREAM="1:1"):
        host.run(SWITCH)
    check(re.search(r"^\d\d:\d\d:\d\d\.\d+ parent host: up", host.logged(), re.M), host.logged())
    check(host.end() == 0, "exit status")
