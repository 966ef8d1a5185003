# Three images from one file. docker-compose.yml says what runs where.
#   docker build --target api    .   the REST API and the page: no torch
#   docker build --target worker .   jobs on the CPU
#   docker build --target worker-cuda .   jobs on NVIDIA GPUs; torch brings its CUDA libraries
# The CPU build of torch lies on an index of its own, which PyTorch's site names:
#   --build-arg TORCH_INDEX=…
FROM python:3.11-slim AS source
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY intrafusion intrafusion
COPY service service
COPY worker worker

FROM source AS build-api
RUN python -m venv /opt/intrafusion \
    && /opt/intrafusion/bin/pip install --no-cache-dir --constraint constraints.txt \
        '.[service,postgresql,tracing]'

FROM source AS build-worker
ARG TORCH_INDEX=""
RUN python -m venv /opt/intrafusion \
    && /opt/intrafusion/bin/pip install --no-cache-dir --constraint constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        '.[engine,onnx,service,postgresql,tracing]'

# constraints.txt pins the version of torch; without an index for the CPU it is the CUDA build.
FROM source AS build-worker-cuda
RUN python -m venv /opt/intrafusion \
    && /opt/intrafusion/bin/pip install --no-cache-dir --constraint constraints.txt \
        '.[engine,onnx,service,postgresql,tracing]'

FROM python:3.11-slim AS base
RUN useradd --create-home --uid 1000 intrafusion \
    && install --directory --owner intrafusion /state
ENV PATH=/opt/intrafusion/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    INTRAFUSION_HOME=/state
WORKDIR /state
VOLUME /state

FROM base AS api
COPY --from=build-api /opt/intrafusion /opt/intrafusion
USER intrafusion
EXPOSE 8000
CMD ["uvicorn", "--factory", "service.main:create_app", "--host", "0.0.0.0", "--port", "8000", \
     "--no-access-log", "--timeout-graceful-shutdown", "10"]

FROM base AS worker-base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGTERM
CMD ["python", "-m", "worker"]

FROM worker-base AS worker-cuda
COPY --from=build-worker-cuda /opt/intrafusion /opt/intrafusion
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER intrafusion

FROM worker-base AS worker
COPY --from=build-worker /opt/intrafusion /opt/intrafusion
USER intrafusion
