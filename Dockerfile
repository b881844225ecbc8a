# Two images from one distribution: `--target operator` and `--target inference`.
# Builds with Docker's classic builder and with BuildKit. PYTHON_IMAGE is any Debian image with Python 3.11 or later.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The classic builder builds every stage up to the target: the operator's come first.

# --- what both builds need: uv, and the build machine's certificates and package index, which stay in this stage -----------------
FROM ${PYTHON_IMAGE} AS builder
ARG UV_VERSION=0.13.8
COPY build/machine/ /machine/
COPY build/with-machine /usr/local/bin/with-machine
RUN with-machine python3 -m venv /opt/uv && with-machine /opt/uv/bin/pip install --no-cache-dir --quiet "uv==${UV_VERSION}"
ENV UV_PROJECT_ENVIRONMENT=/app/.venv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1
# The libraries' own test suites, and bytecode of the Kubernetes client's models, of which next to none is loaded: 100 MB.
ENV NOT_NEEDED="-type d ( -name tests -o -path */kubernetes/*/models/__pycache__ -o -path */kubernetes/*/api/__pycache__ )"
WORKDIR /src
COPY pyproject.toml uv.lock ./

FROM builder AS operator-builder
RUN with-machine /opt/uv/bin/uv sync --locked --no-dev --no-install-project --extra operator --quiet
COPY README.md LICENSE ./
COPY operator operator
COPY inference/kanarya_inference/__init__.py inference/kanarya_inference/__init__.py
RUN with-machine /opt/uv/bin/uv sync --locked --no-dev --no-editable --extra operator --quiet
# -f: the patterns are for find, not for the shell.
RUN set -f && find /app/.venv $NOT_NEEDED -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS operator
COPY --from=operator-builder /app/.venv /app/.venv
# A name for whatever user id the cluster chooses: kopf asks for one.
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 USER=kanarya HOME=/tmp
USER 65532:65532
ENTRYPOINT ["kanarya"]

FROM builder AS inference-builder
# What only the operator and its command line import: 130 MB.
ENV OPERATORS="--no-install-package scipy --no-install-package rich --no-install-package pygments --no-install-package markdown-it-py"
RUN with-machine /opt/uv/bin/uv sync --locked --no-dev --no-install-project --extra inference $OPERATORS --quiet
COPY README.md LICENSE ./
COPY operator operator
COPY inference inference
RUN with-machine /opt/uv/bin/uv sync --locked --no-dev --no-editable --extra inference $OPERATORS --quiet
RUN set -f && find /app/.venv $NOT_NEEDED -prune -exec rm -rf {} +

FROM ${PYTHON_IMAGE} AS inference
COPY --from=inference-builder /app/.venv /app/.venv
# ONNX Runtime reports its use to its maker unless told not to: a model server calls nobody.
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 USER=kanarya HOME=/tmp ORT_DISABLE_TELEMETRY=1
USER 65532:65532
ENTRYPOINT ["kanarya-ml"]
