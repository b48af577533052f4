"""Stories of end-to-end about files by HTTP, without a guest: curl is the client. Each gets a
Host."""

import os
import re
import subprocess
import time

import dhcp_client_stories
import metrics_stories

LIMIT_S = 60.0
SWITCH = '[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n'


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def get(path, *options, host="10.9.8.1"):
    """Status, head and body of an answer."""
    done = subprocess.run(["curl", "-sg", "-m", "30", "-i", "--path-as-is", *options,
                           f"http://{host}{path}"], capture_output=True, timeout=LIMIT_S)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return status, head.decode(), body


def folder_with(host, files):
    """A directory as an operator makes it: everybody may read it."""
    folder = host.path("sets")
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    for parent, _, _ in os.walk(folder):
        os.chmod(parent, 0o755)
    return folder


def locations(folder, path="/pub/OpenBSD/*"):
    return (f'[[install.location]]\npath = "{path}"\ndirectory = "{folder}"\nstrip = 2\n'
            'listing = true\n')


def test_http_locations(host):
    """Files of one directory, by a process that can read nothing else."""
    content = os.urandom(3_000_000)
    folder = folder_with(host, {"7.8/amd64/base78.tgz": content, "7.8/amd64/SHA256": b"sums\n",
                                "7.8/amd64/.secret": b"no"})
    os.symlink("/etc/passwd", os.path.join(folder, "passwd"))
    os.symlink("7.8", os.path.join(folder, "snapshots"))
    host.run(SWITCH + locations(folder))
    for release in ("7.8", "snapshots"):
        status, head, body = get(f"/pub/OpenBSD/{release}/amd64/base78.tgz")
        check(status == 200 and body == content, f"{release}: {head}")
        check("Content-Type: application/gzip\r\n" in head, head)
        check("Content-Encoding" not in head, head)
    status, head, body = get("/pub/OpenBSD/7.8/amd64/base78.tgz", "-r", "1000000-1000009")
    check(status == 206 and body == content[1000000:1000010], head)
    etag = re.search(r"ETag: (\S+)", head).group(1)
    status, head, body = get("/pub/OpenBSD/7.8/amd64/base78.tgz", "-H", f"If-None-Match: {etag}")
    check(status == 304 and not body, head)
    status, head, body = get("/pub/OpenBSD/7.8/amd64/index.txt")
    names = [line.split()[-1] for line in body.decode().splitlines()]
    check(status == 200 and names == ["SHA256", "base78.tgz"], body)
    status, head, _ = get("/pub/OpenBSD/7.8?x=1")
    check(status == 301 and "Location: http://10.9.8.1/pub/OpenBSD/7.8/?x=1\r\n" in head, head)
    for path, wanted in (("/pub/OpenBSD/passwd", 404), ("/pub/OpenBSD/7.8/amd64/.secret", 404),
                         ("/pub/OpenBSD/../../../etc/passwd", 404),
                         ("/pub/OpenBSD/%2e%2e/%2e%2e/etc/passwd", 404),
                         ("/pub/OpenBSD/..%2f..%2f..%2fetc/passwd", 404),
                         ("/pub/OpenBSD/7.8/%00", 400), ("/pub/OpenBSD/7.8/%zz", 400),
                         ("/etc/passwd", 404), ("/pub/OpenBSD/none", 404)):
        check(get(path)[0] == wanted, f"{path}: {get(path)[1]}")
    check(get("/pub/OpenBSD/7.8/", "-d", "x=1")[0] == 405, "a POST")
    # The installer asks for https first, and goes on at once when nobody is there.
    began = time.monotonic()
    refused = subprocess.run(["curl", "-s", "-m", "10", "https://10.9.8.1/"], timeout=LIMIT_S)
    check(refused.returncode == 7 and time.monotonic() - began < 5, f"port 443: {refused}")
    metrics = host.ctl("metrics").stdout
    check(re.search(r'vmhost_http_responses_total\{listener="install",code="206"\} 1$', metrics,
                    re.M), metrics)
    check(host.end() == 0, "exit status after SIGTERM")


def test_http_ipv6(host):
    """The addresses of a switch of both kinds, from behind a port of it; and their port 443, where
    the installer looks first, is refused at once."""
    content = os.urandom(100_000)
    folder = folder_with(host, {"7.8/amd64/base78.tgz": content})
    lan = SWITCH + 'ipv6 = "2001:db8:98::1/64"\nports = ["near"]\n'
    with dhcp_client_stories.Place(host) as place:
        host.run(lan + '[install]\nsets = "' + folder + '"\n')
        inside = ["ip", "netns", "exec", place.name]
        for words in ("link set lo up", "link set far up", "address add 10.9.8.9/24 dev far",
                      "address add 2001:db8:98::9/64 dev far nodad"):
            subprocess.run(["ip", "-n", place.name, *words.split()], check=True)
        for address in ("10.9.8.1", "[2001:db8:98::1]"):
            url = f"{address}/pub/OpenBSD/7.8/amd64/base78.tgz"
            got = subprocess.run([*inside, "curl", "-sg", "-m", "20", f"http://{url}"],
                                 capture_output=True, timeout=LIMIT_S)
            check(got.stdout == content, f"{address}: {got.returncode}")
            began = time.monotonic()
            refused = subprocess.run([*inside, "curl", "-sgk", "-m", "10", f"https://{url}"],
                                     capture_output=True, timeout=LIMIT_S)
            took_s = time.monotonic() - began
            check(refused.returncode == 7 and took_s < 1, f"443 at {address}: {refused} {took_s}")
        status = get("/pub/OpenBSD/7.8", host="[2001:db8:98::1]")
        check("Location: http://[2001:db8:98::1]/pub/OpenBSD/7.8/\r\n" in status[1], status)
        check(host.end() == 0, "exit status after SIGTERM")


def test_http_access(host):
    """What a tenant must not have: files that the service's user may not read."""
    folder = folder_with(host, {"open": b"yes", "closed": b"no"})
    os.chmod(os.path.join(folder, "closed"), 0o600)
    log = host.path("access.log")
    host.run(SWITCH + f'[install]\naccess_log = "{log}"\n' + locations(folder, "/a/b/*"))
    check(get("/a/b/open")[0] == 200, "a file that everybody may read")
    check(get("/a/b/closed")[0] == 403, "a file that is root's alone")
    check(host.end() == 0, "exit status after SIGTERM")
    with open(log) as file:
        lines = file.read().splitlines()
    check(len(lines) == 2 and re.fullmatch(
        r'10\.9\.8\.1 - - \[.* \+0000\] "GET /a/b/open HTTP/1\.1" 200 3 "-" "curl/.*"', lines[0]),
        lines)


def test_http_sets(host):
    """A mirror on this host, and guests that are told of it."""
    folder = folder_with(host, {"7.8/amd64/base78.tgz": b"base", "7.8/amd64/INSTALL.amd64": b"i"})
    vm = ('[vm.a]\nenable = false\ninterface = [{ switch = "lan", ipv4 = "10.9.8.20" }]\n'
          'install = {}\n')
    host.run(SWITCH + f'[install]\nsets = "{folder}"\n' + vm)
    check(get("/pub/OpenBSD/7.8/amd64/base78.tgz")[2] == b"base", "a set")
    check(b"INSTALL.amd64\n" in get("/pub/OpenBSD/7.8/amd64/index.txt")[2], "the listing")
    check(host.end() == 0, "exit status after SIGTERM")


def test_download_and_apply(host):
    """A change of the file that leaves the directories as they are does not cut a download off;
    another directory is served after one that does not."""
    content = os.urandom(40_000_000)  # more than a socket keeps
    folder = folder_with(host, {"a": content, "other/b": b"b"})
    host.run(SWITCH + locations(folder, "/x/y/*"))
    slow = subprocess.Popen(["curl", "-s", "-m", "50", "--limit-rate", "8M", "-o",
                             host.path("got"), "http://10.9.8.1/x/y/a"])
    time.sleep(0.3)
    vm = '[vm.a]\nenable = false\ninterface = [{ switch = "lan" }]\ninstall = {}\n'
    host.write(SWITCH + locations(folder, "/x/y/*") + vm)
    before = http_process(host)
    vmhost(host, "apply", "-y")
    check(http_process(host) == before, "the process was started anew")
    check(slow.wait(timeout=LIMIT_S) == 0, "the download was cut off")
    with open(host.path("got"), "rb") as file:
        check(file.read() == content, "the download is not the file")
    host.write(SWITCH + locations(os.path.join(folder, "other"), "/x/y/*") + vm)
    vmhost(host, "apply", "-y")
    check(get("/x/y/b")[0] == 200 and get("/x/y/a")[0] == 404, "another directory")
    check(http_process(host) != before, "the process was not started anew")
    # Another directory of the same name; and one that is not there keeps nobody else down.
    os.rename(os.path.join(folder, "other"), os.path.join(folder, "old"))
    host.write(SWITCH + locations(os.path.join(folder, "other"), "/x/y/*"))
    vmhost(host, "apply", "-y")
    check(get("/x/y/b")[0] == 503, "a directory that is not there")
    folder_with(host, {"other/c": b"c"})
    host.write(SWITCH + locations(os.path.join(folder, "other"), "/x/y/*") + vm)
    vmhost(host, "apply", "-y")
    check(get("/x/y/c")[2] == b"c", "a directory in the place of another")
    check(host.end() == 0, "exit status after SIGTERM")


def http_process(host):
    return metrics_stories.pids_of(host, "http")


def vmhost(host, *words):
    done = subprocess.run([host.binary, words[0], "-f", host.path("vmhost.toml"), *words[1:]],
                          capture_output=True, text=True, timeout=LIMIT_S)
    check(done.returncode == 0, f"vmhost {' '.join(words)}: {done.stdout}{done.stderr}")
