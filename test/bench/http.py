"""Files by HTTP: vmhost's http process against nginx and lighttpd, one worker each.

The client is wrk on one thread, over loopback, with connections that are kept. Files lie in memory,
so that the figures are the servers' own work; each server writes no access log.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time

summary = "files of 1 KiB, 64 KiB and 100 MiB by HTTP, against nginx and lighttpd"

SECONDS = 5
CONNECTIONS = 16
FILES = {"1 KiB": 1 << 10, "64 KiB": 64 << 10, "100 MiB": 100 << 20}
LIMIT_S = 20
UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def ours(bench, folder, files, port):
    config = write(os.path.join(folder, "vmhost.toml"), f"""
[host]
name = "bench"
user = "nobody"
state = "{folder}"
[control]
socket = "{folder}/sock"
[install]
listen = ["127.0.0.1:{port}"]
[[install.location]]
path = "/*"
directory = "{files}"
""")
    return [bench.binary, "run", "-f", config, "--log", "warning"]


def nginx(_, folder, files, port):
    config = write(os.path.join(folder, "nginx.conf"), f"""
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen 127.0.0.1:{port}; root {files}; }}
}}
""")
    return ["/usr/sbin/nginx", "-c", config]


def lighttpd(_, folder, files, port):
    config = write(os.path.join(folder, "lighttpd.conf"), f"""
server.document-root = "{files}"
server.port = {port}
server.bind = "127.0.0.1"
server.max-keep-alive-requests = 1000
""")
    return ["/usr/sbin/lighttpd", "-D", "-f", config]


SERVERS = {"vmhost": ours, "nginx": nginx, "lighttpd": lighttpd}


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wrk(port, name):
    """Requests and bytes in a second."""
    done = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--timeout", f"{LIMIT_S}s",
                           f"http://127.0.0.1:{port}/{name}"], capture_output=True, text=True,
                          check=True).stdout
    found = dict(line.split(":", 1) for line in done.splitlines() if "/sec:" in line)
    errors = [line for line in done.splitlines() if "errors" in line or "Non-2xx" in line]
    if errors:
        raise SystemExit(f"http: {name}: {errors}")
    rate = found["Transfer/sec"].strip()
    unit = next(unit for unit in ("GB", "MB", "KB", "B") if rate.endswith(unit))
    return float(found["Requests/sec"]), float(rate[:-len(unit)]) * UNITS[unit]


def measured(bench, server, files):
    folder = tempfile.mkdtemp(prefix="vmhost-bench-")
    port = free_port()
    log = open(os.path.join(folder, "log"), "w")
    process = subprocess.Popen(SERVERS[server](bench, folder, files, port),
                               stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + LIMIT_S
        while not answers(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"http: {server} did not come up:\n" + open(log.name).read())
            time.sleep(0.02)
        return {name: wrk(port, name.replace(" ", "")) for name in FILES}
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def measure(bench):
    for program in ("wrk", "/usr/sbin/nginx", "/usr/sbin/lighttpd"):
        if not shutil.which(program):
            raise SystemExit(f"http: {program} is missing: apt-get install wrk nginx-light lighttpd")
    files = tempfile.mkdtemp(prefix="vmhost-bench-", dir="/dev/shm")
    try:
        os.chmod(files, 0o755)
        for name, size in FILES.items():
            with open(os.path.join(files, name.replace(" ", "")), "wb") as file:
                file.write(os.urandom(1 << 20) * (size >> 20) or os.urandom(size))
        runs = {server: [] for server in SERVERS}
        for _ in range(bench.runs):
            for server in SERVERS:
                runs[server].append(measured(bench, server, files))
    finally:
        shutil.rmtree(files)
    for peer in ("nginx", "lighttpd"):
        for name, size in FILES.items():
            # Many small ones by number, a large one by its bytes.
            which, unit, scale = (0, "k/s", 1e3) if size < 1 << 20 else (1, "MiB/s", 1 << 20)
            values = {server: [run[name][which] / scale for run in runs[server]]
                      for server in ("vmhost", peer)}
            yield bench.Row(f"{name}, {CONNECTIONS} connections", unit, values["vmhost"],
                            values[peer], peer, goal=f"ahead of {peer}" if peer == "nginx" else "",
                            met=(lambda ours, peer: ours > peer) if peer == "nginx" else None)
