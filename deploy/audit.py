"""Look the locked packages up among known advisories: ``make audit``.

    python deploy/audit.py requirements/runtime-cpu.txt ...

Needs pip-audit and the advisories of the Python Package Index, or of OSV with ``--service osv``.
Exit status: 0 nothing is known, 1 something is, 2 the database could not be asked, and that
says nothing about the packages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

KNOWN, NOT_ASKED = 1, 2
TIMEOUT_SECONDS = 15


class NotAskedError(Exception):
    """The advisory database could not be asked."""


def audit(lock: Path, service: str) -> list[dict[str, Any]]:
    """The packages of a lock file with their known advisories.

    Raises:
        NotAskedError: with the last line of what pip-audit said.
    """
    # The lock file is the whole truth: nothing is resolved, installed or run.
    command = [sys.executable, "-P", "-m", "pip_audit", "--requirement", str(lock), "--disable-pip",
               "--require-hashes", "--vulnerability-service", service, "--format", "json",
               "--progress-spinner", "off", "--timeout", str(TIMEOUT_SECONDS)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise NotAskedError(last[0]) from None
    # A mirror may have the packages and no advisories: it then knows none of them.
    if found and all("skip_reason" in package for package in found):
        raise NotAskedError(found[0]["skip_reason"])
    return found


def report(lock: Path, packages: list[dict[str, Any]]) -> bool:
    """Print what is known; returns whether anything is."""
    bad = [package for package in packages if package.get("vulns")]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    print(f"{lock}: {len(packages) - len(skipped)} packages, advisories for {len(bad)}")
    if skipped:
        print(f"  not looked up: {', '.join(skipped)}")
    for package in bad:
        for advisory in package["vulns"]:
            names = ", ".join([advisory["id"], *advisory.get("aliases", [])])
            fixed = ", ".join(advisory.get("fix_versions", [])) or "no release yet"
            print(f"  {package['name']} {package['version']}: {names}; fixed in {fixed}")
    return bool(bad)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("locks", nargs="+", type=Path, metavar="LOCK")
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi")
    options = parser.parse_args(arguments)
    try:
        known = [report(lock, audit(lock, options.service)) for lock in options.locks]
    except NotAskedError as error:
        print(f"error: the advisory database ({options.service}) could not be asked: {error}",
              file=sys.stderr)  # fmt: skip
        print("This says nothing about the packages. Try again where there is a network.",
              file=sys.stderr)  # fmt: skip
        return NOT_ASKED
    return KNOWN if any(known) else 0


if __name__ == "__main__":
    sys.exit(main())
