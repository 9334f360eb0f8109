#!/usr/bin/env python3
"""The http sink through nginx with TLS: it trusts what it was told to and nothing else, shows a client certificate, speaks
HTTP/2, and loses nothing when nginx dies. The authority is made for the test."""
import os
import pathlib
import shutil
import signal
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness
from http_server import Server
from sink_site import SinkSite

CONFIG = """
error_log {dir}/error.log;
pid {dir}/pid;
worker_processes 1;
events {{ worker_connections 128; }}
http {{
  log_format told '$server_protocol $status "$ssl_client_s_dn"';
  access_log {dir}/access.log told;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  ssl_certificate {dir}/server.pem; ssl_certificate_key {dir}/server.key;
  server {{ listen 127.0.0.1:{plain} ssl http2; server_name localhost; location / {{ proxy_pass {far}; }} }}
  server {{ listen 127.0.0.1:{mutual} ssl http2; server_name localhost; ssl_client_certificate {dir}/ca.pem;
            ssl_verify_client on; location / {{ proxy_pass {far}; }} }}
}}
"""


def openssl(*words, cwd):
    done = harness.run("openssl", *words, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"openssl {words}: {done.stderr}")


def make_authority(directory, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", cwd=directory)


def make_certificate(directory, name, extensions, *key_options):
    (directory / f"{name}.ext").write_text(extensions)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *(key_options or ["-nodes"]), "-subj",
            f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=directory)
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", f"{name}.ext", "-out", f"{name}.pem", cwd=directory)


class Nginx:
    def __init__(self, checks, far):
        self.checks, self.dir = checks, checks.dir("nginx")
        self.dir.mkdir()
        make_authority(self.dir, "ca")
        make_authority(self.dir, "other")
        make_certificate(self.dir, "server", "subjectAltName=DNS:localhost")
        make_certificate(self.dir, "agent", "extendedKeyUsage=clientAuth", "-passout", "pass:swordfish")
        (self.dir / "password").write_text("swordfish\n")
        (self.dir / "password").chmod(0o600)
        self.plain, self.mutual = harness.free_port(), harness.free_port()
        (self.dir / "nginx.conf").write_text(CONFIG.format(dir=self.dir, plain=self.plain, mutual=self.mutual,
                                                           far=f"http://127.0.0.1:{far.port}"))
        # Started as root it would change to another user, who may not look into the scratch directory.
        self.user = ["user root;"] if os.geteuid() == 0 else []
        self.start()

    def start(self):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        self.child = self.checks.start(program, "-p", self.dir, "-e", self.dir / "error.log", "-c",
                                       self.dir / "nginx.conf", "-g", " ".join(["daemon off;"] + self.user))
        if not harness.wait_until(self.answers):
            raise RuntimeError(f"nginx does not start: {(self.dir / 'error.log').read_text()}")

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.plain)) == 0

    def stop(self):
        """At once, with all connections."""
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(60)

    def settings(self, port, **more):
        return {"url": f"https://localhost:{port}/in", "format": "batch", "ca_file": str(self.dir / "ca.pem"), **more}

    def access(self):
        return (self.dir / "access.log").read_text()


def sends(checks, what, settings, server, **environment):
    before = len(server.requests)
    site = SinkSite(checks, what.replace(" ", "-"), "http", settings)
    site.put_numbers(3)
    checks.check(site.deliver(**environment), f"{what}: delivered", site.said()[-800:])
    return [request for request in server.requests[before:]]


def does_not_send(checks, what, settings, server, *words):
    """Nothing arrives, nothing is lost, and the operator hears why."""
    before = len(server.requests)
    site = SinkSite(checks, what.replace(" ", "-"), "http", settings)
    site.put_numbers(3)
    site.run()
    heard = harness.wait_until(lambda: any(word in site.said() for word in words))
    far = site.far()
    site.stop()
    checks.check(heard and len(server.requests) == before and far.get("pending_events") == 3 and not site.dead(),
                 f"{what}: nothing is sent, and the operator hears why", f"{far} {site.said()[-800:]}")


def tls(checks):
    server = Server(lambda request: 200)
    nginx = Nginx(checks, server)
    there = nginx.dir
    requests = sends(checks, "own authority", nginx.settings(nginx.plain), server)
    checks.check(requests and requests[0].ids(), "own authority: the events arrive")
    checks.check("HTTP/2.0 200" in nginx.access(), "own authority: by HTTP/2", nginx.access())
    sends(checks, "one point one", nginx.settings(nginx.plain, http_version="1.1"), server)
    checks.check("HTTP/1.1 200" in nginx.access(), "http_version 1.1: by HTTP/1.1", nginx.access())
    does_not_send(checks, "system authorities", {"url": nginx.settings(nginx.plain)["url"]}, server, "certificate")
    does_not_send(checks, "other authority", nginx.settings(nginx.plain, ca_file=str(there / "other.pem")), server,
                  "certificate")
    does_not_send(checks, "wrong name", {**nginx.settings(nginx.plain), "url": f"https://127.0.0.1:{nginx.plain}/in"},
                  server,
                  "127.0.0.1")
    does_not_send(checks, "no such file", nginx.settings(nginx.plain, ca_file=str(there / "none.pem")), server,
                  "none.pem")
    does_not_send(checks, "plain HTTP at a TLS port", {"url": f"http://localhost:{nginx.plain}/in", "format": "batch",
                                                       "status": {"down": ["4xx"]}}, server, "answers 400")
    sends(checks, "not verified", {"url": f"https://127.0.0.1:{nginx.plain}/in", "tls_verify": False}, server)

    mutual = nginx.settings(nginx.mutual, status={"down": [400]})
    does_not_send(checks, "no client certificate", mutual, server, "answers 400")
    certificate = {"cert_file": str(there / "agent.pem"), "key_file": str(there / "agent.key")}
    sends(checks, "client certificate", {**mutual, **certificate, "key_password": {"file": str(there / "password")}},
          server)
    checks.check('"CN=agent"' in nginx.access(), "client certificate: nginx knows who it is", nginx.access())
    does_not_send(checks, "client certificate with a wrong password",
                  {**mutual, **certificate, "key_password": {"env": "HOME"}}, server, "key", "SSL")
    restarts(checks, nginx, server)
    nginx.stop()


def restarts(checks, nginx, server):
    """nginx dies and comes back while events flow, many requests at once over HTTP/2."""
    before = len(server.requests)
    site = SinkSite(checks, "restarts", "http", {**nginx.settings(nginx.plain), "format": "structured",
                                                 "concurrency": 16},
                    retry={"base": "5ms", "cap": "50ms"})
    ids = site.put_numbers(4000)
    site.run()
    for _ in range(4):
        seen = len(server.requests)
        harness.wait_until(lambda: len(server.requests) > min(seen + 400, before + 3900), 30)
        nginx.stop()
        time.sleep(checks.random.uniform(0.0, 0.2))
        nginx.start()
    checks.check(site.drained(), "restarts: all are delivered", site.said()[-800:])
    site.stop()
    there = [i for request in server.requests[before:] for i in request.ids()]
    print(f"    {len(ids)} events, {len(there) - len(ids)} came again")
    checks.check(set(there) == set(ids) and not site.dead(), "restarts: every event arrived",
                 len(set(ids) - set(there)))


if __name__ == "__main__":
    sink_harness.need("http")
    harness.main("http_tls", [tls])
