#!/bin/sh
# Resolve pyproject.toml into the lock files, for every Python and platform it supports.
# lock.sh VENV [uv options, for instance --upgrade]; without them nothing moves that need not.
set -eu
python=$1/bin/python
shift
"$python" -m pip install --quiet --require-hashes --requirement requirements/bootstrap.txt

compile() {
    lock=requirements/$1.txt
    shift
    "$python" -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --custom-compile-command 'make lock' --output-file "$lock" "$@"
    echo "$lock: $(grep -c == "$lock") packages"
}

# the largest first: the others take their versions from it
compile development pyproject.toml --extra cpu --extra grpc --extra train --extra dev "$@"
compile runtime-cpu pyproject.toml --extra cpu --extra grpc \
    --constraints requirements/development.txt "$@"
compile runtime-cuda pyproject.toml --extra gpu-system --extra grpc \
    --constraints requirements/development.txt "$@"
compile training-cpu pyproject.toml --extra cpu --extra grpc --extra train --extra plots \
    --constraints requirements/development.txt "$@"
compile bootstrap --group bootstrap "$@"
compile supply --group supply "$@"
# alone: it is put in front of an environment that has what it needs
compile openvino --group openvino --no-deps "$@"
compile gpu-stub --group gpu-stub --no-deps "$@"
