# syntax=docker/dockerfile:1
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS source
WORKDIR /src
RUN rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2
COPY . .

# The bundled plugins, WebAssembly components.
FROM source AS plugins
RUN make plugins

# The service.
FROM source AS service
RUN cargo build --locked --release

FROM ${RUNTIME_IMAGE}
# A fixed id, so that the owner of a volume's files can be told from outside.
RUN groupadd --gid 10001 task-logger \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin task-logger \
 && install -d -o task-logger -g task-logger -m 0750 \
      /data /data/logs /data/logs/tasks /data/plugins /data/stream /var/cache/task-logger
COPY --from=plugins /src/target/plugins/ /usr/share/task-logger/plugins/
COPY --from=service /src/target/release/task-logger /usr/local/bin/task-logger

ENV REDIS_URL=redis://redis:6379/0 \
    LOGS_DIR=/data/logs/tasks \
    STREAM_DIR=/data/stream \
    CACHE_DIR=/var/cache/task-logger \
    PLUGINS_DIR=/usr/share/task-logger/plugins:/data/plugins \
    REQUIRED_PLUGINS=redact \
    HOST=0.0.0.0 \
    PORT=8090

USER 10001:10001
WORKDIR /data
EXPOSE 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["task-logger", "health"]
ENTRYPOINT ["task-logger"]
CMD ["serve"]
