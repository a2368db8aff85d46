# The server with the deployment of this folder. `docker build -t flowcraft-server .`; deploy/compose.yaml runs it.
FROM python:3.11.14-slim-bookworm AS builder
WORKDIR /src
RUN python -m venv /opt/venv
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY sdk ./sdk
COPY server ./server
# PIP_CONSTRAINT holds for the build backend too, which pip installs apart from the rest.
RUN PIP_CONSTRAINT=/src/constraints.txt \
    /opt/venv/bin/pip --no-cache-dir install --disable-pip-version-check -c constraints.txt ./sdk '.[llm]'

FROM python:3.11.14-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# tini is process 1: it passes signals on, and reaps processes that handlers leave behind.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini=0.19.0-1+b3 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /app --shell /usr/sbin/nologin flowcraft
COPY --from=builder /opt/venv /opt/venv
WORKDIR /app
COPY flowcraft.yaml ./
COPY handlers ./handlers
COPY blueprints ./blueprints
USER 10001:10001
STOPSIGNAL SIGTERM
# The HTTP API, where the deployment's `api.bind` is 0.0.0.0:8088: of the one here, with FLOWCRAFT_PROFILE=container.
EXPOSE 8088
HEALTHCHECK --interval=10s --timeout=10s --start-period=20s --retries=3 CMD ["flowcraft-server", "health", "--this-host"]
ENTRYPOINT ["tini", "--", "flowcraft-server"]
CMD ["run"]
