"""Stories of end-to-end about fetching sets from a mirror: one of ours on loopback, with a key of
our own, that can be all that a mirror can be. Each gets a Host, which runs no daemon for most."""

import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import tarfile
import threading
import time

import dhcp_client_stories
from boot_stories import Skip

LIMIT_S = 60.0
RELEASE = "7.8/amd64"
BIG = 3_000_000


def check(condition, text):
    if not condition:
        raise AssertionError(text)


class Keys:
    """openbsd-78-base.pub, and another one, as signify(1) makes them."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        for name in ("openbsd-78-base", "openbsd-77-base"):
            try:
                subprocess.run(["signify-openbsd", "-G", "-n", "-p", f"{folder}/{name}.pub", "-s",
                                f"{folder}/{name}.sec"], check=True)
            except FileNotFoundError:
                raise Skip("no signify-openbsd") from None

    def sign(self, text, by="openbsd-78-base"):
        message, signed = f"{self.folder}/message", f"{self.folder}/message.sig"
        with open(message, "wb") as file:
            file.write(text)
        subprocess.run(["signify-openbsd", "-S", "-e", "-s", f"{self.folder}/{by}.sec", "-m",
                        message, "-x", signed], check=True)
        with open(signed, "rb") as file:
            return file.read()


def sums(files):
    return b"".join(f"SHA256 ({name}) = {hashlib.sha256(content).hexdigest()}\n".encode()
                    for name, content in files.items())


class Mirror:
    """files: what is served below /pub/OpenBSD/7.8/amd64/. requests: path and Range of each. A
    path in special is answered by that function instead, with the handler."""

    def __init__(self, files):
        self.files, self.special, self.requests = files, {}, []
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                name = self.path.removeprefix(f"/pub/OpenBSD/{RELEASE}/")
                mirror.requests.append((name, self.headers["Range"]))
                if name in mirror.special:
                    mirror.special[name](self)
                elif name in mirror.files:
                    self.send_file(mirror.files[name])
                else:
                    self.send_error(404)
                self.close_connection = True

            def send_file(self, content, most=None):
                begin, tag = 0, '"' + hashlib.sha256(content).hexdigest()[:16] + '"'
                if (found := re.match(r"bytes=(\d+)-$", self.headers["Range"] or "")) and \
                        self.headers["If-Range"] == tag:
                    begin = int(found.group(1))
                    self.send_response(206)
                    self.send_header("Content-Range",
                                     f"bytes {begin}-{len(content) - 1}/{len(content)}")
                else:
                    self.send_response(200)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(content[begin:][:most])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/pub/OpenBSD"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def asked(self, name):
        return [wanted for asked, wanted in self.requests if asked == name]

    def end(self):
        self.server.shutdown()
        self.server.server_close()


FILES = {"base78.tgz": os.urandom(BIG), "bsd.rd": os.urandom(50_000), "INSTALL.amd64": b"read me\n",
         "install78.iso": b"the same again"}


class World:
    """A mirror of FILES, a directory for the sets, and the command."""

    def __init__(self, host):
        self.host = host
        self.keys = Keys(host.path("keys"))
        self.sets = host.path("mirrored")
        os.makedirs(self.sets)
        os.chmod(self.sets, 0o755)
        self.mirror = Mirror(dict(FILES))
        self.sign(sums(FILES))
        self.file = host.path("sets.toml")
        self.config = (f'[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\n[install]\n'
                       f'sets = "{self.sets}"\nmirror = "{self.mirror.url}"\n'
                       f'signify_keys = "{self.keys.folder}"\n')
        with open(self.file, "w") as file:
            file.write(self.config)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mirror.end()

    def sign(self, text, by="openbsd-78-base"):
        self.mirror.files["SHA256.sig"] = self.keys.sign(text, by)

    def command(self, *words):
        return [self.host.binary, "sets", *words, "-f", self.file]

    def run(self, *words, status=0):
        done = subprocess.run(self.command(*words), capture_output=True, text=True,
                              timeout=LIMIT_S)
        check(done.returncode == status,
              f"sets {words}: {done.returncode} and not {status}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def fetch(self, *words, status=0):
        return self.run("fetch", "7.8", "amd64", *words, status=status)

    def served(self):
        """The files that are there, hidden ones left out."""
        folder = os.path.join(self.sets, RELEASE)
        if not os.path.isdir(folder):
            return None
        found = {}
        for name in os.listdir(folder):
            if not name.startswith("."):
                with open(os.path.join(folder, name), "rb") as file:
                    found[name] = file.read()
        return found

    def check_served(self, files):
        wanted = {name: content for name, content in files.items() if not name.endswith(".iso")}
        found = self.served()
        check(found and found.pop("SHA256.sig", None), "no SHA256.sig")
        check(found == wanted, f"served: {sorted(found)}")

    def work(self):
        return os.path.join(self.sets, ".fetch-7.8-amd64")


def test_sets_fetch(host):
    """A release is fetched, listed, verified, served to guests, and replaced by another."""
    with World(host) as world:
        told = json.loads(subprocess.run(world.command("fetch", "7.8", "amd64", "--json"), check=True,
                                         capture_output=True, timeout=LIMIT_S).stdout)
        check(told["files"] == 3 and told["key"] == "openbsd-78-base.pub", told)
        world.check_served(FILES)
        check(not os.path.exists(world.work()), "what it worked in is left")
        check(not world.mirror.asked("install78.iso"), "a medium was fetched")
        host.run(world.config)
        for name in ("base78.tgz", "SHA256.sig"):
            got = subprocess.run(["curl", "-s", f"http://10.9.8.1/pub/OpenBSD/{RELEASE}/{name}"],
                                 capture_output=True, timeout=LIMIT_S)
            check(got.stdout == world.served()[name], name)
        # Again: nothing has to come but the list; with another file, that one.
        world.mirror.requests.clear()
        world.fetch()
        check([name for name, _ in world.mirror.requests] == ["SHA256.sig"],
              world.mirror.requests)
        newer = dict(FILES) | {"bsd.rd": os.urandom(60_000), "comp78.tgz": b"comp"}
        del newer["INSTALL.amd64"]
        world.mirror.files.update(newer)
        world.sign(sums(newer))
        world.fetch()
        world.check_served(newer)
        got = subprocess.run(["curl", "-s", f"http://10.9.8.1/pub/OpenBSD/{RELEASE}/bsd.rd"],
                             capture_output=True, timeout=LIMIT_S)
        check(got.stdout == newer["bsd.rd"], "the newer file is not served")
        listed = json.loads(world.run("list", "--json"))
        check(len(listed) == 1 and listed[0]["version"] == "7.8" and listed[0]["files"] == 4 and
              abs(listed[0]["verified_s"] - time.time()) < 60, listed)
        check(re.search(r"^7\.8 +amd64 +20\d\d-", world.run("list"), re.M), world.run("list"))
        check("good" in world.run("verify", "7.8", "amd64"), "verify")
        world.run("verify", "7.9", status=1)
        path = os.path.join(world.sets, RELEASE, "bsd.rd")
        with open(path, "r+b") as file:
            file.write(b"x")
        check("bsd.rd: its SHA256 is another" in world.run("verify", status=2), "a changed file")
        os.unlink(path)
        check("bsd.rd: it is missing" in world.run("verify", status=2), "a missing file")
        world.fetch("--all")
        check("install78.iso" in world.served(), "--all")
        check(host.end() == 0, "exit status after SIGTERM")


def test_sets_forged(host):
    """What was not signed is not served, and what was there stays."""
    with World(host) as world:
        mirror = world.mirror

        def refused(text, status=2):
            told = world.fetch(status=status)
            check(re.search(text, told), told)
            check(world.served() is None, f"served: {world.served()}")

        good = mirror.files["SHA256.sig"]
        world.sign(sums(FILES), by="openbsd-77-base")
        refused("SHA256.sig: it is signed by another key")
        lines = mirror.files["SHA256.sig"].split(b"\n", 2)
        mine = good.split(b"\n", 2)
        mirror.files["SHA256.sig"] = b"\n".join([mine[0], mine[1], lines[2] + b" "])
        refused("SHA256.sig: its signature is wrong")
        mirror.files["SHA256.sig"] = sums(FILES)
        refused("SHA256.sig: it has no signature")
        for name in ("../x", "../../x", "/etc/x", ".verified", "a/b"):
            world.sign(sums({name: b"x"}))
            refused("no sum of a file")
        mirror.files["SHA256.sig"] = b"x" * 100_000
        refused("more than 64", status=1)
        mirror.files["SHA256.sig"] = good
        mirror.files["bsd.rd"] = os.urandom(50_000)
        refused("bsd.rd: it is not what was signed")
        check(os.listdir(world.sets) == [".fetch-7.8-amd64"], os.listdir(world.sets))
        mirror.files["bsd.rd"] = FILES["bsd.rd"]
        world.fetch()
        mirror.files["bsd.rd"] = b"other"
        world.sign(sums(FILES | {"bsd.rd": b"another"}))
        world.fetch(status=2)
        world.check_served(FILES)


def test_sets_cut(host):
    """A connection that breaks, and a fetch that is killed, go on where they were."""
    with World(host) as world:
        mirror, big = world.mirror, FILES["base78.tgz"]
        turns = []

        def cut(handler):
            turns.append(None)
            handler.send_file(big, BIG // 3 if len(turns) < 3 else None)
        mirror.special["base78.tgz"] = cut
        world.fetch()
        world.check_served(FILES)
        asked = mirror.asked("base78.tgz")
        check(asked == [None, f"bytes={BIG // 3}-", f"bytes={BIG // 3 * 2}-"], asked)

        # Killed in the middle, with another set of files.
        newer = FILES | {"base78.tgz": os.urandom(BIG)}
        mirror.files.update(newer)
        world.sign(sums(newer))
        hold = threading.Event()

        def stuck(handler):
            handler.send_file(newer["base78.tgz"], BIG // 2)
            handler.wfile.flush()
            hold.wait(LIMIT_S)
        mirror.special["base78.tgz"] = stuck
        process = subprocess.Popen(world.command("fetch", "7.8", "amd64"),
                                   stderr=subprocess.DEVNULL)
        part = os.path.join(world.work(), "base78.tgz.part")
        end = time.monotonic() + LIMIT_S
        while not (os.path.exists(part) and os.path.getsize(part) == BIG // 2):
            check(time.monotonic() < end, "half of it did not come")
            time.sleep(0.05)
        busy = world.fetch(status=1)
        check("is being fetched already" in busy, busy)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
        hold.set()
        world.check_served(FILES)
        del mirror.special["base78.tgz"]
        mirror.requests.clear()
        world.fetch()
        world.check_served(newer)
        check(mirror.asked("base78.tgz") == [f"bytes={BIG // 2}-"], mirror.requests)

        # A part of what the mirror no longer has: its tag is another, and all of it comes again.
        last = newer | {"base78.tgz": os.urandom(BIG)}
        mirror.files.update(last)
        world.sign(sums(last))
        os.makedirs(world.work())
        for suffix, content in (("part", b"x" * 1000), ("from", b'"other"')):
            with open(os.path.join(world.work(), f"base78.tgz.{suffix}"), "wb") as file:
                file.write(content)
        world.fetch()
        world.check_served(last)

        # A mirror that says it goes on, and sends something else: once more from the start.
        lying = last | {"base78.tgz": os.urandom(BIG)}
        mirror.files.update(lying)
        world.sign(sums(lying))
        tag = '"' + hashlib.sha256(lying["base78.tgz"]).hexdigest()[:16] + '"'
        os.makedirs(world.work())
        for suffix, content in (("part", b"x" * 1000), ("from", tag.encode())):
            with open(os.path.join(world.work(), f"base78.tgz.{suffix}"), "wb") as file:
                file.write(content)
        mirror.requests.clear()
        world.fetch()
        world.check_served(lying)
        check(mirror.asked("base78.tgz") == ["bytes=1000-", None], mirror.requests)


def test_sets_bad_mirror(host):
    """Mirrors that lead astray, never end, or are none."""
    with World(host) as world:
        mirror = world.mirror

        def to(location, status=302):
            def answer(handler):
                handler.send_response(status)
                handler.send_header("Location", location)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            return answer

        def raw(data):
            def answer(handler):
                with contextlib.suppress(OSError):
                    handler.wfile.write(data)
            return answer

        def refused(answer, text, status=1):
            mirror.special["bsd.rd"] = answer
            told = world.fetch(status=status)
            check(re.search(text, told), told)
            check(world.served() is None, f"served: {world.served()}")

        refused(to("bsd.rd"), "sends us on more than 5 times")
        check(len(mirror.asked("bsd.rd")) == 6, mirror.requests)
        refused(to("https://127.0.0.1/x"), "there is no TLS here")
        refused(to("file:///etc/passwd"), "no address of a file")
        refused(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), "more than 4")
        refused(raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000), "head of the answer is too long", 2)
        refused(raw(b"SSH-2.0-x\r\n\r\n"), "no HTTP server", 2)
        refused(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "how long")
        refused(raw(b"HTTP/1.1 206 x\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/10\r\n\r\n"
                    b"12345"), "another part", 2)
        refused(lambda handler: handler.send_error(404), "does not have it")
        # And one that leads to the right place.
        mirror.special["bsd.rd"] = to(f"/pub/OpenBSD/{RELEASE}/moved", 308)
        mirror.special["moved"] = lambda handler: handler.send_file(FILES["bsd.rd"])
        world.fetch()
        world.check_served(FILES)
        for url, text in (("https://127.0.0.1/x", "no TLS"), ("ftp://x", "no address")):
            check(text in world.fetch("--mirror", url, status=1), url)
        told = world.run("fetch", "../../x", "amd64", status=1)
        check("no release" in told, told)
        told = world.run("fetch", "7.6", "amd64", status=1)
        check("openbsd-76-base.pub" in told, told)


def test_site_sets(host):
    """Site sets of all guests and of one, beside the sets: the same bytes each time, and that of
    one guest for its address alone."""
    sets = host.path("mirrored")
    os.makedirs(os.path.join(sets, RELEASE))
    with open(os.path.join(sets, RELEASE, "base78.tgz"), "wb") as file:
        file.write(b"base")
    for parent, _, _ in os.walk(sets):
        os.chmod(parent, 0o755)
    script = host.path("install.site")
    with open(script, "w") as file:
        file.write("#!/bin/ksh\necho done\n")
    text = (f'[switch.lan]\ninterface = "br-lan"\nipv4 = "10.9.8.1/24"\nports = ["near"]\n'
            f'[install]\nsets = "{sets}"\n[install.site]\ninstallurl = "https://a.example/pub"\n'
            f'sysctl = {{ "kern.a" = "1", "kern.b" = "2" }}\ninstall_site = "{script}"\n'
            '[vm.a]\nenable = false\ninterface = [{ switch = "lan", ipv4 = "10.9.8.20" }]\n'
            '[vm.a.install]\nhostname = "puffy.example.org"\n'
            '[vm.a.install.site]\nsysctl = { "kern.b" = "3" }\n'
            'files = [{ path = "root/secret", content = "s\\n", mode = "0600", group = 5 }]\n')
    with dhcp_client_stories.Place(host) as place:
        host.run(text)
        for words in ("link set far up", "address add 10.9.8.20/24 dev far",
                      "address add 10.9.8.21/24 dev far"):
            subprocess.run(["ip", "-n", place.name, *words.split()], check=True)

        def get(name, source="10.9.8.20"):
            done = subprocess.run(
                ["ip", "netns", "exec", place.name, "curl", "-sf", "-m", "20", "--interface",
                 source, f"http://10.9.8.1/pub/OpenBSD/{RELEASE}/{name}"],
                capture_output=True, timeout=LIMIT_S)
            return done.stdout if done.returncode == 0 else None

        def files(packed):
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
                return {one.name: (tar.extractfile(one).read(), one.mode, one.uid, one.gid,
                                   one.mtime) for one in tar}
        general, own = get("site78.tgz"), get("site78-puffy.tgz")
        check(files(general) == {
            "etc/installurl": (b"https://a.example/pub\n", 0o644, 0, 0, 0),
            "etc/sysctl.conf": (b"kern.a=1\nkern.b=2\n", 0o644, 0, 0, 0),
            "install.site": (b"#!/bin/ksh\necho done\n", 0o755, 0, 0, 0)}, files(general))
        check(files(own) == {"etc/sysctl.conf": (b"kern.a=1\nkern.b=3\n", 0o644, 0, 0, 0),
                             "root/secret": (b"s\n", 0o600, 0, 5, 0)}, files(own))
        check(get("site78-puffy.tgz", "10.9.8.21") is None, "another address has the VM's own")
        check(get("site78.tgz", "10.9.8.21") == general, "another address has not that of all")

        def listed(source):
            return [line.split()[-1].decode() for line in get("index.txt", source).splitlines()]
        check(listed("10.9.8.20") == ["base78.tgz", "site78.tgz", "site78-puffy.tgz"], "list")
        check(listed("10.9.8.21") == ["base78.tgz", "site78.tgz"], "list of another")
        answers = subprocess.run(
            ["ip", "netns", "exec", place.name, "curl", "-sf", "--interface", "10.9.8.20",
             "http://10.9.8.1/install.conf"], capture_output=True, timeout=LIMIT_S).stdout.decode()
        check("Set name(s) = -x* -game* +site*\n" in answers, answers)
        # A change of the file comes with apply, and the bytes are those of what it says.
        def apply():
            subprocess.run([host.binary, "apply", "-y", "-f", host.path("vmhost.toml")],
                           check=True, timeout=LIMIT_S, capture_output=True)
        host.write(text.replace('"kern.b" = "2"', '"kern.b" = "9"'))
        apply()
        check(files(get("site78.tgz"))["etc/sysctl.conf"][0] == b"kern.a=1\nkern.b=9\n", "apply")
        host.write(text)
        apply()
        check(get("site78.tgz") == general, "the same file makes other bytes")
        check(host.end() == 0, "exit status after SIGTERM")
