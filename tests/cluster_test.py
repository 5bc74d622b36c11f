#!/usr/bin/env python3
"""The local cluster as a person uses it: up, down, status, what is killed comes back, what is wrong is said. As this
user and, when that is root, once more as an ordinary user made for the test.

Every cluster has its own folder and kernel-chosen port; only processes started here are ended.
"""
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")
USER = "postern-test"


class Person:
    """Runs commands as a user, with a home of its own."""

    def __init__(self, user=None):
        self.user = user
        self.home = tempfile.mkdtemp(prefix="postern-home-")
        if user:
            shutil.chown(self.home, user, user)
        # The programs where any user can read them, as after an installation.
        self.programs = tempfile.mkdtemp(prefix="postern-bin-")
        os.chmod(self.programs, 0o755)
        for name in os.listdir(BIN):
            source = os.path.realpath(os.path.join(BIN, name))
            if os.path.isfile(source) and os.access(source, os.X_OK):
                shutil.copy(source, os.path.join(self.programs, name))
        self.data = os.path.join(self.home, ".local/share/postern")

    def environment(self):
        return {"HOME": self.home, "PATH": os.environ["PATH"], "USER": self.user or "root", "TERM": "dumb"}

    def run(self, *arguments, seconds=60, **more):
        command = list(arguments)
        if self.user:
            command = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"] + command
        return subprocess.run(command, env={**self.environment(), **more}, text=True, timeout=seconds, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)

    def postern(self, *arguments, **more):
        return self.run(os.path.join(self.programs, "postern"), *arguments, **more)

    def kubectl(self, *arguments, **more):
        return self.run(KUBECTL, *arguments, **more)

    def up(self, *arguments):
        done = self.postern("up", "--api-port", "0", *arguments)
        assert done.returncode == 0, done.stderr
        return done

    def status(self):
        return json.loads(self.postern("status", "-o", "json").stdout)

    def pid(self, name):
        return next(p["pid"] for p in self.status()["processes"] if p["name"] == name)

    def close(self):
        self.postern("down")
        for folder in (self.home, self.programs):
            shutil.rmtree(folder, ignore_errors=True)


def only(mode):
    """A test for one mode: "root" or "rootless"."""
    def mark(test):
        test.mode = mode
        return test
    return mark


def eventually(question, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return
        time.sleep(0.02)
    raise AssertionError("did not come true in time")


def running(person):
    """Processes of this person's cluster."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        if person.data in words or program.startswith(person.programs):
            out.append((int(pid), words))
    return out


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_up_status_down(person):
    config = os.path.join(person.home, ".kube/config")
    begun = time.monotonic()
    person.up()
    print(f"  up took {time.monotonic() - begun:.2f} s")
    assert person.kubectl("get", "ns", "default", "-o", "name").stdout == "namespace/default\n"
    assert person.kubectl("config", "current-context").stdout == "postern\n"
    assert os.stat(config).st_mode & 0o777 == 0o600
    assert os.stat(os.path.join(person.data, "run")).st_mode & 0o777 == 0o700
    status = person.status()
    assert status["state"] == "running" and status["kubeconfig"] == config, status
    assert status["mode"] == ("rootless" if person.user else "root"), status
    label = person.kubectl("get", "ns", "default", "-o", "jsonpath={.metadata.labels.istio-injection}").stdout
    assert label == "enabled", label
    assert person.postern("down").returncode == 0
    eventually(lambda: not running(person))
    assert not os.path.exists(config), "the kubeconfig we made stayed"
    assert os.listdir(os.path.join(person.data, "run")) == []
    assert person.postern("status").returncode == 3
    assert person.postern("down").returncode == 0


def test_data_survives_down_and_purge_removes_it(person):
    person.up()
    person.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    person.postern("down")
    person.up()
    assert person.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"
    assert person.postern("down", "--purge").returncode == 0
    assert not os.path.exists(person.data)
    eventually(lambda: not running(person))


@only("rootless")
def test_purge_removes_what_applications_made(person):
    person.up()
    with open("/etc/subuid", encoding="utf-8") as file:
        first = next(int(line.split(":")[1]) for line in file if line.startswith(f"{person.user}:"))
    # As an application with a uid of its own leaves it in a volume: closed to everybody else.
    volume = os.path.join(person.data, "volume-of-an-application")
    private = os.path.join(volume, "cache/private")
    os.makedirs(private)
    with open(os.path.join(private, "kept"), "w", encoding="utf-8") as file:
        file.write("kept")
    shutil.chown(volume, person.user, person.user)
    for path in (os.path.join(volume, "cache"), private, os.path.join(private, "kept")):
        os.chown(path, first + 1000, first + 1000)
    os.chmod(private, 0o700)
    done = person.postern("down", "--purge")
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(person.data)


def test_up_twice_prints_the_status(person):
    person.up()
    before = person.status()["processes"]
    again = person.postern("up")
    assert again.returncode == 0 and "PROCESS" in again.stdout, again
    other = person.postern("up", "--external", "a.example:80=127.0.0.1:1")
    assert other.returncode == 0 and "--external" in other.stderr, other
    assert person.status()["processes"] == before


def test_each_killed_process_is_back_within_a_second(person):
    person.up()
    names = [p["name"] for p in person.status()["processes"] if p["name"] != "supervisor"]
    assert "api" in names and "node-ns" in names, names
    for name in names:
        before = person.pid(name)
        begun = time.monotonic()
        kill(before)
        eventually(lambda: person.pid(name) not in (before, -1) and person.status()["state"] == "running", 5)
        took = time.monotonic() - begun
        print(f"  {name} was back after {took:.2f} s")
        assert took < (1.0 if name == "api" else 3.0), (name, took)
    assert person.kubectl("get", "ns", "default").returncode == 0


def test_requests_wait_while_the_api_server_restarts(person):
    person.up()
    for _ in range(5):
        kill(person.pid("api"))
        done = person.kubectl("get", "ns", "default", "-o", "name")
        assert done.stdout == "namespace/default\n", done.stderr
        # One that lived a moment: a process that ends at once is held back.
        time.sleep(0.2)


def test_next_up_takes_over_after_the_supervisor(person):
    person.up()
    node, api = person.pid("node-ns"), person.pid("api")
    kill(person.pid("supervisor"))
    eventually(lambda: person.status()["state"] == "degraded")
    assert person.kubectl("get", "ns", "default").returncode == 0, "the API went with the supervisor"
    taken = person.postern("up")
    assert taken.returncode == 0 and "taken over" in taken.stderr, taken
    assert person.pid("node-ns") == node
    if os.geteuid() == 0 and not person.user:
        assert person.pid("api") == api
    kill(person.pid("api"))
    eventually(lambda: person.kubectl("get", "ns", "default").returncode == 0)
    assert person.postern("down").returncode == 0
    eventually(lambda: not running(person))


def test_down_ends_what_a_dead_supervisor_left(person):
    person.up()
    kill(person.pid("supervisor"))
    assert person.postern("down").returncode == 0
    eventually(lambda: not running(person))


def test_port_taken(person):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = person.postern("up", "--api-port", str(taken.getsockname()[1]))
    assert done.returncode == 1 and "is taken" in done.stderr and "--api-port" in done.stderr, done
    eventually(lambda: not running(person))
    assert not os.path.exists(os.path.join(person.home, ".kube/config"))


def test_read_only_home(person):
    if person.user:
        os.chmod(person.home, 0o555)
        os.chown(person.home, 0, 0)
        done = person.postern("up", "--api-port", "0")
        shutil.chown(person.home, person.user, person.user)
        os.chmod(person.home, 0o755)
    else:
        done = person.run("unshare", "-m", "sh", "-c",
                          f"mount --bind {person.home} {person.home} && mount -o remount,bind,ro {person.home} && "
                          f"exec {person.programs}/postern up --api-port 0")
    assert done.returncode == 1 and "cannot be made" in done.stderr, done
    assert not running(person)


def test_kubeconfig_that_cannot_be_written(person):
    done = person.postern("up", "--api-port", "0", "--kubeconfig", "/proc/nowhere/config")
    assert done.returncode == 1 and "--kubeconfig" in done.stderr, done
    assert not running(person)


@only("root")
def test_full_disk(person):
    folder = os.path.join(person.home, "disk")
    os.mkdir(folder)
    done = person.run("unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=4m none {folder} && "
                      f"exec {person.programs}/postern up --api-port 0 --data-dir {folder}/data")
    assert done.returncode == 1 and "free" in done.stderr and "--data-dir" in done.stderr, done
    assert not running(person)


def test_data_folder_of_another_version(person):
    person.up()
    person.postern("down")
    with open(os.path.join(person.data, "version"), "w", encoding="ascii") as file:
        file.write("99\n")
    done = person.postern("up", "--api-port", "0")
    assert done.returncode == 1 and "data version 99" in done.stderr, done
    assert not running(person)
    assert person.postern("down", "--purge").returncode == 0
    person.up()


def test_folder_of_something_else(person):
    folder = os.path.join(person.home, "thesis")
    person.run("mkdir", folder)
    person.run("touch", folder + "/chapter1")
    done = person.postern("up", "--api-port", "0", "--data-dir", folder)
    assert done.returncode == 1 and "no data folder" in done.stderr, done
    assert person.postern("down", "--purge", "--data-dir", folder).returncode == 1
    assert os.path.exists(folder + "/chapter1")


def test_broken_store(person):
    person.up()
    person.postern("down")
    for name in os.listdir(os.path.join(person.data, "api")):
        path = os.path.join(person.data, "api", name)
        if os.path.isfile(path):
            with open(path, "r+b") as file:
                file.write(b"not a database" * 100)
    done = person.postern("up", "--api-port", "0")
    assert done.returncode == 1 and "api:" in done.stderr, done
    eventually(lambda: not running(person))


def test_kubeconfig_keeps_other_contexts(person):
    config = os.path.join(person.home, "mine")
    with open(config, "w", encoding="ascii") as file:
        file.write("apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters: [{name: work, cluster: {server: 'https://w'}}]\n"
                   "contexts: [{name: work, context: {cluster: work, user: me}}]\nusers: [{name: me, user: {token: t}}]\n")
    if person.user:
        shutil.chown(config, person.user)
    person.up("--kubeconfig", config)
    contexts = person.kubectl("--kubeconfig", config, "config", "get-contexts", "-o", "name").stdout.split()
    assert sorted(contexts) == ["postern", "work"], contexts
    assert not os.path.exists(os.path.join(person.home, ".kube/config"))
    person.postern("down")
    assert person.kubectl("--kubeconfig", config, "config", "current-context").stdout == "work\n"
    assert person.kubectl("--kubeconfig", config, "config", "get-contexts", "-o", "name").stdout == "work\n"


def test_stand_in_for_a_public_name(person):
    person.up("--external", "httpbin.example:80=demo:httpbin")
    before = person.pid("standin-httpbin.example-80")
    with open(os.path.join(person.data, "run/standin-httpbin.example-80-listener.json"), encoding="ascii") as file:
        port = json.load(file)["port"]
    assert '"origin"' in person.run("curl", "-s", f"http://127.0.0.1:{port}/ip").stdout
    kill(before)
    assert '"origin"' in person.run("curl", "-s", f"http://127.0.0.1:{port}/ip").stdout
    done = person.postern("up", "--external", "nonsense")
    assert done.returncode == 1 and "HOST:PORT" in done.stderr, done


def test_wrong_usage(person):
    assert person.postern("up", "--nonsense").returncode == 2
    assert person.postern("install", "--kubeconfig", "/nowhere").returncode == 1
    assert "postern up" in person.postern("install").stderr
    assert person.postern("--help").returncode == 0
    assert "demoapp" in person.postern("__complete").stdout


def test_install_refuses_a_cluster_that_is_not_ours(person):
    person.up()
    person.kubectl("-n", "kube-system", "delete", "configmap", "postern-cluster")
    done = person.postern("install", "-a")
    assert done.returncode == 1 and "not a local postern cluster" in done.stderr, done
    assert person.kubectl("get", "ns", "istio-system").returncode != 0


@only("rootless")
def test_missing_subordinate_ids(person):
    """What the kernel or the machine forbids is said with its remedy; nothing is started."""
    done = subprocess.run(["unshare", "-m", "sh", "-c", "mount --bind /dev/null /etc/subuid && exec setpriv "
                           f"--reuid={person.user} --regid={person.user} --init-groups {person.programs}/postern up --api-port 0"],
                          env=person.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1 and "usermod --add-subuids" in done.stderr, done
    assert not running(person)


def test_restart_of_the_machine(person):
    """All processes gone at once, the files of the run still there."""
    person.up()
    person.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    pids = [person.pid("supervisor")] + [p["pid"] for p in person.status()["processes"]]
    for pid in dict.fromkeys(pids):
        with contextlib.suppress(ProcessLookupError):  # some end with the ones before them
            kill(pid)
    eventually(lambda: not running(person))
    person.up()
    assert person.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"


@only("rootless")
def test_a_kernel_that_forbids_user_namespaces(person):
    """In a user namespace in which no further one may be made, as a machine's administrator can decide for all."""
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\""
    uid = str(pwd.getpwnam(person.user).pw_uid if person.user else os.geteuid())
    done = person.run("unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", "--keep-caps", "sh", "-c", forbid, "sh",
                      os.path.join(person.programs, "postern"), "up", "--api-port", "0")
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "refuses user namespaces" in done.stderr and "sudo sysctl -w user.max_user_namespaces=15000" in done.stderr, done.stderr
    assert not running(person) and not os.path.exists(os.path.join(person.home, ".kube", "config"))


def ordinary_user():
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "-M", "-s", "/bin/sh", USER], check=True)
    return USER


def main(names):
    """Runs the test functions among `names` (a module's globals), or those named on the command line."""
    version = subprocess.run([KUBECTL, "version", "--client"], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             check=False).stdout.splitlines()
    print(f"kubectl: {version[0] if version else 'unknown'}; uid {os.geteuid()}")
    wanted = sys.argv[1:]
    tests = [(n, f) for n, f in names.items() if n.startswith("test_") and (not wanted or n in wanted)]
    users = [None] + ([ordinary_user()] if os.geteuid() == 0 else [])
    passed = failed = 0
    for user in users:
        mode = "rootless" if user or os.geteuid() != 0 else "root"
        print(f"mode: {mode}, uid {pwd.getpwnam(user).pw_uid if user else os.geteuid()}")
        for name, test in tests:
            if getattr(test, "mode", mode) != mode:
                continue
            person = Person(user)
            try:
                test(person)
                passed += 1
                print(f"ok {name}")
            except Exception as error:  # one failure must not hide the others
                failed += 1
                print(f"FAILED {name}: {type(error).__name__}: {error}")
            finally:
                person.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(globals()))
