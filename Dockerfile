# One image for the API and the worker; docker-compose.yml says which is which.
# For a smaller image without CUDA, point pip at an index of CPU builds of torch:
#   docker build --build-arg PIP_ARGS="--index-url …" .
FROM python:3.11-slim

ARG PIP_ARGS=""

RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 intrafusion \
    && install --directory --owner intrafusion /state

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY intrafusion intrafusion
COPY service service
COPY worker worker
RUN pip install --no-cache-dir --constraint constraints.txt ${PIP_ARGS} '.[engine,service]'

USER intrafusion
ENV INTRAFUSION_HOME=/state
VOLUME /state
EXPOSE 8000
CMD ["uvicorn", "--factory", "service.main:create_app", "--host", "0.0.0.0", "--port", "8000"]
