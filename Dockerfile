# One image for every part: `serve` names what a container runs.
FROM node:24.21.0-bookworm-slim AS base
WORKDIR /app

# No install scripts: packages with such scripts also contain prebuilt files.
FROM base AS dependencies
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 # files that only compilers and debuggers read
 && find node_modules -type f \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' \) -delete

FROM base AS build
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY scripts scripts
COPY src src
COPY clients/typescript/src clients/typescript/src
RUN npm run build

FROM base AS runtime
# Beyond loopback the servers need TLS and authentication (docs/security.md), or INSECURE=true.
ENV NODE_ENV=production \
    GRPC_ADDR=0.0.0.0:8081 \
    HTTP_ADDR=0.0.0.0:8082
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
# files read at run time, two folders above the code: version, gRPC definition, migrations
COPY package.json ./
COPY proto proto
COPY sql sql
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
