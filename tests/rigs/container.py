"""A Dockerfile's steps without an engine: run one by one, in a root folder and an environment of their own.

What stands in for the base image: this machine's ``/usr``, read-only and without compilers, a Python at ``/usr/local``,
Debian's own list of users, and nothing else.  It takes the rights of root, for mounts.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.ledgers import NotHere

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FOLDERS = ("dev", "etc", "opt", "proc", "root", "run", "sys", "tmp", "usr", "var/tmp", "home", "mnt", "srv")
_NOT_IN_A_SLIM_IMAGE = ("gcc", "cc", "c++", "g++", "make", "cmake", "git", "curl", "wget", "rustc", "cargo")
_DEVICES = ("null", "zero", "full", "random", "urandom")

Step = tuple[str, str]
"""An instruction and its text."""


@dataclass
class Stage:
    """One stage of a Dockerfile: the steps, and what they have set so far."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)


def stages(dockerfile: Path) -> list[Stage]:
    """Read a Dockerfile; gives its stages in their order."""
    found: list[Stage] = []
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, text = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            found.append(Stage(base.strip(), name.strip() or str(len(found))))
        else:
            found[-1].steps.append((word, text.strip()))
    return found


def context(source: Path, to: Path) -> None:
    """Copy what ``.dockerignore`` leaves of a folder, as an engine is sent it."""
    rules = [line.strip() for line in (source / ".dockerignore").read_text().splitlines() if line.strip()]
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and name.parts[0] != ".git" and not _ignored(name, rules):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, to / name)


def _ignored(name: Path, rules: Iterable[str]) -> bool:
    """Tell by the last rule that means a file or a folder above it."""
    ignored = False
    above = [str(name), *(str(parent) for parent in name.parents if parent != Path())]
    for rule in rules:
        pattern = re.escape(rule.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, one) for one in above):
            ignored = not rule.startswith("!")
    return ignored


def needs_mounts() -> None:
    """Raise ``NotHere`` where this process may not mount."""
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    if os.getuid() or tried.returncode:
        raise NotHere("no right to mount")


def interpreter(wanted: str) -> Path:
    """Give the prefix of a Python of that version, such as 3.13, or else of this one."""
    kept = Path(sys.base_prefix)
    prefixes = [*sorted(kept.parent.glob(f"{wanted}.*")), kept]
    named = shutil.which(f"python{wanted}")
    if named:
        asked = subprocess.run(
            [named, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=False
        )
        if asked.returncode == 0:
            prefixes.insert(0, Path(asked.stdout.strip()))
    for prefix in prefixes:
        if prefix != Path("/usr") and (prefix / "bin/python3").exists():
            return prefix
    raise NotHere("no Python beside the system's own")


class Root:
    """A root folder, and commands that see nothing but what is in it."""

    def __init__(self, folder: Path, python: Path) -> None:
        """Make it as the base image has it."""
        self.folder, self._python = folder, python
        for name in _FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "var/tmp"):
            (folder / name).chmod(0o1777)
        for name in ("bin", "lib", "lib64", "sbin"):
            (folder / name).symlink_to(f"usr/{name}")
        etc = folder / "etc"
        for name in ("passwd", "group"):
            shutil.copy(f"/usr/share/base-passwd/{name}.master", etc / name)
        (etc / "shadow").write_text("")
        (etc / "ld.so.conf").write_text("/usr/local/lib\n/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n")
        for name in ("login.defs", "resolv.conf", "nsswitch.conf", "host.conf"):
            if Path("/etc", name).exists():
                shutil.copy(f"/etc/{name}", etc / name)
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        shutil.copytree("/etc/ssl/certs", etc / "ssl/certs", symlinks=False, ignore_dangling_symlinks=True)
        self.run(["/sbin/ldconfig"], {})

    def run(self, command: Sequence[str], env: Mapping[str, str], folder: str = "/", user: str = "0:0") -> str:
        """Run a command to its end; gives what it said, or fails with it."""
        done = subprocess.run(
            self.isolated(command, env, folder, user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={},
        )
        if done.returncode:
            raise RuntimeError(
                f"{shlex.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}"
            )
        return done.stdout

    def isolated(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        folder: str = "/",
        user: str = "0:0",
        writable: Mapping[str, Path] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> list[str]:
        """
        Give the command line that runs a command in here, as process 1 of its own.

        Args:
            user: Numbers of a user and a group; without rights if it is not root.
            writable: Folders outside by where they are to be seen; with them, all else can only be read, but /tmp.
            files: Files that are to be seen in place of others.
        """
        root = str(self.folder)
        mounts = [
            f"mount --bind {root} {root}",
            f"mount --bind -o ro /usr {root}/usr",
            f"mount --bind -o ro {self._python} {root}/usr/local",
            *(f"mount --bind /dev/null {root}{path}" for path in _compilers()),
            f"mount -t tmpfs -o mode=755 tmpfs {root}/dev",
            f"mkdir -m 1777 {root}/dev/shm && mount -t tmpfs -o mode=1777 tmpfs {root}/dev/shm",
            *(f"touch {root}/dev/{name} && mount --bind /dev/{name} {root}/dev/{name}" for name in _DEVICES),
            f"mount -t proc proc {root}/proc",
            *(f"mount --bind {source} {root}{target}" for target, source in (files or {}).items()),
            *(f"mount --bind {source} {root}{target}" for target, source in (writable or {}).items()),
        ]
        if writable is not None:
            mounts += [f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp", f"mount -o remount,bind,ro {root}"]
        uid, gid = user.split(":")
        rights = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"] if uid != "0" else []
        inside = [
            *("chroot", root, "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights),
            *("/usr/bin/env", "-i", f"--chdir={folder}", *(f"{name}={value}" for name, value in env.items()), *command),
        ]
        script = f"set -e; export PATH={PATH}; {'; '.join(mounts)}; exec {shlex.join(inside)}"
        unshare = shutil.which("unshare") or "unshare"
        return [unshare, "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "/bin/sh", "-c", script]


def _compilers() -> list[str]:
    """Give programs of this machine that a slim image does not have, by their real paths."""
    found = {os.path.realpath(f"/usr/bin/{name}") for name in _NOT_IN_A_SLIM_IMAGE if Path("/usr/bin", name).exists()}
    return sorted(path for path in found if path.startswith("/usr/bin/"))


def build(stage: Stage, root: Root, sent: Path, built: Mapping[str, Root]) -> None:
    """Do a stage's steps, one by one."""
    stage.env = {"PATH": PATH, "HOME": "/root"}
    for word, text in stage.steps:
        match word:
            case "RUN":
                root.run(["/bin/sh", "-c", text], stage.env, stage.folder, stage.user)
            case "COPY":
                _copy(text, stage, root, sent, built)
            case "ENV":
                for pair in shlex.split(text.replace("$PATH", stage.env["PATH"])):
                    stage.env |= [pair.split("=", 1)]
            case "WORKDIR":
                stage.folder = text
                _inside(root, text).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = text
            case "VOLUME":
                stage.volumes.append(text)
            case "HEALTHCHECK":
                stage.healthcheck = json.loads(text.partition("CMD")[2])
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(text)
            case "CMD":
                stage.command = json.loads(text)
            case "EXPOSE":
                pass
            case _:
                raise ValueError(f"{word} is not known here")


def _copy(text: str, stage: Stage, root: Root, sent: Path, built: Mapping[str, Root]) -> None:
    words = text.split()
    source = sent
    if words[0].startswith("--from="):
        source = built[words.pop(0).removeprefix("--from=")].folder
    *names, to = words
    target = _inside(root, str(Path(stage.folder, to)))
    for name in names:
        path = source / name.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
        elif to.endswith("/") or len(names) > 1:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / path.name)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def _inside(root: Root, path: str) -> Path:
    return root.folder / path.lstrip("/")
