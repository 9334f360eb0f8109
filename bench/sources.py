"""Peers that Debian does not have, or not in the version that is wanted: a variable of the environment names a binary,
or a source tree that is built below build/bench. Nothing is fetched for that: what the sources need beyond Debian's
packages has to lie in the tree (for nats-server: `go mod vendor`)."""
import functools
import os
import subprocess


class BuildError(Exception):
    """Why there is no program."""


# Only what the benchmark uses: TCP in and out, and the buffer in files with what reads it again.
FLUENT_BIT_OFF = ["SQLDB", "LUAJIT", "WASM", "PROXY_GO", "CONFIG_YAML", "BACKTRACE", "KAFKA", "EXAMPLES", "SHARED_LIB",
                  "TESTS_RUNTIME", "TESTS_INTERNAL"]
FLUENT_BIT_ON = ["RELEASE", "MINIMAL", "IN_TCP", "OUT_TCP", "IN_STORAGE_BACKLOG"]


def run(command, directory, log, **env):
    """Its output goes to `log`; the last line that says something is the reason when it fails."""
    with open(log, "ab") as file:
        try:
            done = subprocess.run(command, cwd=directory, env=dict(os.environ, **env), stdout=file, stderr=file)
        except OSError as reason:
            raise BuildError(f"{command[0]}: {reason.strerror}") from reason
    if done.returncode:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()] or ["nothing was said"]
        raise BuildError(f"{' '.join(command[:2])}: {lines[-1]} (all of it: {log})")


def fluent_bit(tree, room, log):
    switches = [f"-DFLB_{name}=Off" for name in FLUENT_BIT_OFF] + [f"-DFLB_{name}=On" for name in FLUENT_BIT_ON]
    run(["cmake", tree, "-DCMAKE_BUILD_TYPE=Release", *switches], room, log)
    run(["cmake", "--build", ".", "--target", "fluent-bit-bin"], room, log)
    return os.path.join(room, "bin", "fluent-bit")


def nats_server(tree, room, log):
    program = os.path.join(room, "nats-server")
    mode = "vendor" if os.path.isdir(os.path.join(tree, "vendor")) else "readonly"
    go = os.environ.get("GO", "go")
    run([go, "build", "-p", "1", "-o", program, "."], tree, log, GOFLAGS=f"-mod={mode}", GOPROXY="off",
        GOTOOLCHAIN="local", CGO_ENABLED="0")
    return program


BUILDERS = {"FLUENT_BIT": fluent_bit, "NATS_SERVER": nats_server}


@functools.cache  # once in a run is enough, also where it failed
def build(variable, tree, out):
    """The program, and "" or why there is none."""
    room = os.path.join(out, variable.lower().replace("_", "-"))
    log = os.path.join(room, "build.log")
    os.makedirs(room, exist_ok=True)
    with open(log, "wb"):
        pass
    try:
        return BUILDERS[variable](tree, room, log), ""
    except BuildError as reason:
        return "", str(reason)


def given(variable, out):
    """The program that the variable names, or "" where it is not set. BuildError."""
    path = os.environ.get(variable, "")
    if not path:
        return ""
    path = os.path.abspath(path)
    if os.path.isfile(path):
        return path
    if not os.path.isdir(path):
        raise BuildError(f"{variable}={path} is neither a program nor a source tree")
    program, problem = build(variable, path, out)
    if problem:
        raise BuildError(problem)
    return program
