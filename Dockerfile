# Builds an environment first, then a slim image with that environment and the code.
FROM python:3.12-slim AS build
WORKDIR /build
COPY requirements.txt .
# PIP_ARGS chooses another build of torch, e.g. one without CUDA.
ARG PIP_ARGS=""
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir ${PIP_ARGS} -r requirements.txt

FROM python:3.12-slim
# libgomp: torch's threads on the CPU; a C compiler: Triton builds the launchers of our GPU kernels
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 laconic
WORKDIR /laconic
COPY --from=build /venv /venv
COPY --chown=laconic:laconic wsgi.py gunicorn.conf.py ./
COPY --chown=laconic:laconic adapters adapters
COPY --chown=laconic:laconic models models
COPY --chown=laconic:laconic serving serving
COPY --chown=laconic:laconic training training
COPY --chown=laconic:laconic app app
USER laconic
# A container must listen on every address to be reached at all, so the server starts only with keys:
#   docker run -v ./keys:/run/secrets/keys:ro -e LACONIC_API_KEYS_FILE=/run/secrets/keys -p …
# or, where nobody else reaches the published port, with LACONIC_ALLOW_PUBLIC_WITHOUT_KEYS=true.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_DISABLE_TELEMETRY=1 LACONIC_BIND=0.0.0.0:8000
# Trained adapters are mounted here.
VOLUME /laconic/adapters/store
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
