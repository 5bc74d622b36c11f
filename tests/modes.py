"""Runs a suite as root and as an ordinary user without any right (rootless), each time in a network, process and mount
namespace of its own, so that ports and addresses disturb nobody and everything a suite started ends with it.
"""
import os
import pwd
import re
import shutil
import subprocess
import tempfile

TESTS = os.path.dirname(os.path.abspath(__file__))
USER = "postern-test"
INSIDE = "POSTERN_SUITE_INSIDE"
PROGRAMS = ("postern", "postern-proxy", "postern-control", "postern-demo")


def inside():
    """True in the process that run() started."""
    return bool(os.environ.get(INSIDE))


def name():
    return "root" if os.getuid() == 0 else "rootless"


def run(script, binaries, kubectl, seconds, home_megabytes=None):
    """Starts `script` again in each mode, prints what it says and the sum of its counts; the exit code. With
    `home_megabytes` $TMPDIR is a file system of that size.
    """
    assert os.getuid() == 0, "makes namespaces and a user: run it as root"
    try:
        pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(("useradd", "--create-home", USER), check=True)
    passed = failed = 0
    # An ordinary user cannot look into everybody's folders.
    folder = tempfile.mkdtemp(prefix="postern-bin-")
    os.chmod(folder, 0o755)
    try:
        for program in PROGRAMS:
            shutil.copy(os.path.join(binaries, program), folder)
        for module in os.listdir(TESTS):
            if module.endswith(".py"):
                shutil.copy(os.path.join(TESTS, module), folder)
        temporary = os.path.join(folder, "tmp")
        os.mkdir(temporary)
        os.chmod(temporary, 0o1777)
        words = [f"POSTERN_BIN={folder}", f"KUBECTL={shutil.copy(shutil.which(kubectl), os.path.join(folder, 'kubectl'))}",
                 f"{INSIDE}=1", f"PATH={os.environ['PATH']}:/usr/sbin"]
        shell = "ip link set lo up"
        if home_megabytes:
            shell += f" && mount -t tmpfs -o size={home_megabytes}m,mode=1777 none {temporary}"
            words.append(f"TMPDIR={temporary}")
        shell += ' && exec "$@"'
        for user in (None, USER):
            argv = ["env"] + words + ["python3" if user is None else "/usr/bin/python3",
                                      os.path.join(folder, os.path.basename(script))]
            if user:
                argv = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--reset-env"] + argv
            done = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", shell,
                                   "sh"] + argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds,
                                  check=False)
            print(done.stdout, flush=True)
            counts = re.search(r"^(\d+) passed, (\d+) failed$", done.stdout, re.M)
            passed += int(counts.group(1)) if counts else 0
            failed += int(counts.group(2)) if counts else 1
    finally:
        shutil.rmtree(folder)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
