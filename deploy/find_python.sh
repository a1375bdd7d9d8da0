#!/bin/sh
# Print the first Python that this project runs on. $PYTHON, when set, is the only candidate.
# Newer than 3.14 is left out because the pinned packages have no builds for it.
works='import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if "$candidate" -c "$works" >/dev/null 2>&1; then
        command -v "$candidate"
        exit 0
    fi
done
if [ -n "${PYTHON:-}" ]; then
    echo "error: PYTHON=$PYTHON is not a Python 3.11, 3.12, 3.13 or 3.14." >&2
else
    found=$(python3 --version 2>/dev/null) || found='no python3'
    echo "error: Python 3.11 to 3.14 is needed; here is $found." >&2
    echo "Install one (Debian 12 and Ubuntu 24.04: apt-get install python3 python3-venv;" >&2
    echo "macOS: brew install python@3.13) or name one: make run PYTHON=/path/to/python3" >&2
fi
exit 1
