# One static binary in an otherwise empty image. Both base images are arguments, so that a mirror can be used.
ARG BUILD_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
WORKDIR /src

# Dependencies change less often than the code: this layer is built again only when go.mod or go.sum changes.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download

COPY . .
ARG VERSION=dev
# internal/release has the flags of a shipped binary.
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    go run ./internal/release -version "${VERSION}" -o /out/latchkey && \
    cp "$(go env GOROOT)/lib/time/zoneinfo.zip" /out/

FROM ${BASE_IMAGE}
# The roots for TLS to PostgreSQL, Redis and the mail server.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# The time zones, so that TZ works: in the binary they would take as much.
COPY --from=build /out/zoneinfo.zip /zoneinfo.zip
ENV ZONEINFO=/zoneinfo.zip
COPY --from=build /out/latchkey /latchkey

# A number, not a name: Kubernetes' runAsNonRoot cannot check a name, and the image has no /etc/passwd.
USER 65532:65532

# gRPC and HTTP. The operations listener (9464) stays on the container's loopback unless LATCHKEY_OPS_ADDR opens it.
EXPOSE 50051 8080

# The start may wait 30 s for its stores.
HEALTHCHECK --interval=10s --timeout=3s --start-period=40s --retries=3 CMD ["/latchkey", "healthcheck"]

ENTRYPOINT ["/latchkey"]
CMD ["serve"]
