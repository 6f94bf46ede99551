# One image for every part: `serve` names what a container runs.
FROM node:24.21.0-bookworm-slim AS base
WORKDIR /app

# No install scripts: packages with such scripts also contain prebuilt files.
FROM base AS build
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY scripts scripts
COPY src src
COPY clients/typescript/src clients/typescript/src
COPY docs/runbook.md docs/runbook.md
COPY proto proto
COPY sql sql
RUN npm run build && node scripts/ship.mjs /image/app && npm run --silent sbom > /image/app/sbom.cdx.json

# Of Debian the image has only what Node loads, and a shell for DATABASE_PASSWORD_COMMAND. The users are those of Node's image.
FROM base AS system
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN mkdir -p /image/bin /image/etc && mkdir -m 1777 /image/tmp \
 && cp -L /bin/dash /image/bin/sh && cp /etc/passwd /etc/group /etc/nsswitch.conf /etc/debian_version /etc/os-release /image/etc/ \
 && cp --parents /usr/local/bin/node /image/ \
 && ldd /usr/local/bin/node /bin/dash | grep -oE '/[^ :]+\.so[^ :]*' | sort -u | xargs cp --parents -L -t /image/

FROM scratch AS runtime
WORKDIR /app
# Beyond loopback the servers need TLS and authentication (docs/security.md), or INSECURE=true.
ENV PATH=/usr/local/bin:/bin \
    NODE_ENV=production \
    GRPC_ADDR=0.0.0.0:8081 \
    HTTP_ADDR=0.0.0.0:8082
COPY --from=system /image/ /
COPY --from=build /image/ /
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="payments" \
      org.opencontainers.image.description="A participant in an order saga: Kafka in, PostgreSQL with an outbox, Kafka out, gRPC" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/node:24.21.0-bookworm-slim"
# the image's user node, by number: Kubernetes cannot know that a name is not root
USER 1000:1000
EXPOSE 8081 8082

# Liveness, not readiness: some engines kill unhealthy containers, and a broker outage is no reason for that.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "require(process.env.HTTP_TLS_CERT ? 'https' : 'http').get({ host: '127.0.0.1', port: process.env.HTTP_ADDR.split(':').pop(), path: '/livez', rejectUnauthorized: false }, (_) => process.exit(_.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]

# The exec form with node itself: a shell or npm in between would get the SIGTERM and end without waiting for the
# program. Run it with an init (`docker run --init`): as process 1 node ignores a SIGTERM before its handlers exist.
ENTRYPOINT ["node", "dist/bin/payments.js"]
CMD ["serve"]
