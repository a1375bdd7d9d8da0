# LookWhen as a container. ACCELERATOR=cpu (the default) or cuda (NVIDIA, CUDA 13).
#
#     docker build --tag lookwhen:cpu .
#     docker build --build-arg ACCELERATOR=cuda --tag lookwhen:cuda .
#     docker run --rm lookwhen:cpu key me        prints a key and its entry
#     docker run --rm --publish 8000:8000 --read-only --tmpfs /tmp \
#         --env LOOKWHEN_API_KEYS=ENTRY lookwhen:cpu
#
# Python and FFmpeg are the distribution's: a rebuild with --pull brings its security fixes for
# both, and for the codecs below them, which is where untrusted clips end up.
ARG ACCELERATOR=cpu

FROM debian:bookworm-slim AS base-cpu
ENV PYTHON_PACKAGES="python3 libpython3.11"

# torch decodes on the CPU here too: only onnxruntime uses CUDA and cuDNN
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS base-cuda
ENV PYTHON_PACKAGES="python3 libpython3.12t64" \
    LOOKWHEN_EXECUTION_PROVIDERS=CUDAExecutionProvider,CPUExecutionProvider


FROM base-${ACCELERATOR} AS base
# ffmpeg's libraries come with OpenGL's; what only draws is left out (about 180 MB)
RUN printf 'path-exclude=%s\n' \
        '/usr/lib/*/dri/*' '/usr/lib/*/libLLVM*' '/usr/lib/*/libz3*' '/usr/lib/*/libmfxhw64*' \
        '/usr/share/doc/*' '/usr/share/fonts/*' '/usr/share/icons/*' '/usr/share/man/*' \
        > /etc/dpkg/dpkg.cfg.d/without-graphics \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ffmpeg ${PYTHON_PACKAGES} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*


FROM base AS build
ARG ACCELERATOR
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        binutils ca-certificates python3-venv
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
# the packages first: they change less often than the project
COPY deploy/bootstrap.py deploy/steps.py deploy/
COPY requirements requirements
RUN python3 -m deploy.bootstrap /opt/lookwhen --requirements requirements/runtime-${ACCELERATOR}.txt
COPY LICENSE README.md pyproject.toml ./
COPY bundle bundle
COPY export export
COPY lookwhen lookwhen
COPY model model
COPY networks networks
COPY service service
COPY startup startup
COPY training training
COPY video video
RUN /opt/lookwhen/bin/pip install --no-deps --no-build-isolation .
# What serves nobody goes: headers, tests, symbols, pip itself. The bytecode is compiled here,
# once, because on a read-only root every decode process would compile torch anew. The last line
# fails the build if too much went.
RUN cd /opt/lookwhen/lib/python3*/site-packages \
 && /opt/lookwhen/bin/python -m pip uninstall --yes --quiet uv pip \
 && rm -rf torch/include torch/share torch/test torch/lib/*_test.so \
 && find torch/bin -mindepth 1 -not -name torch_shm_manager -delete \
 && strip --strip-unneeded torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so \
 && python3 -m compileall -q -j 0 -x py312_ --invalidation-mode unchecked-hash . \
 && /opt/lookwhen/bin/python -c 'import cv2, onnxruntime, service, torchcodec.decoders'
# The list of its packages, by a tool that does not become one of them. Debian's own list is dpkg's.
RUN python3 -m venv /opt/supply \
 && /opt/supply/bin/pip install --require-hashes --requirement requirements/supply.txt \
 && /opt/supply/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file /opt/lookwhen/sbom.cdx.json /opt/lookwhen/bin/python


FROM base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="LookWhen" \
      org.opencontainers.image.description="Video classification whose cost is a request parameter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/lookwhen /opt/lookwhen
# a number, so that runAsNonRoot can be checked; the files are root's, and not writable to it
USER 10001:10001
WORKDIR /tmp
ENV PATH=/opt/lookwhen/bin:$PATH \
    HOME=/tmp \
    LOOKWHEN_HOST=0.0.0.0 \
    LOOKWHEN_PORT=8000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
# ready, not merely alive: after warm-up, and not while draining
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['LOOKWHEN_PORT'] + '/readyz', timeout=4)"]
ENTRYPOINT ["lookwhen"]
CMD ["serve"]
