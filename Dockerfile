FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches are not part of the image, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features \
    && install -D target/release/anteroom /out/anteroom \
    && mkdir /out/data

# Has glibc and ca-certificates, and no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/anteroom /anteroom
# The default store, anteroom.db and its anteroom.key, is made in the working directory; nothing else is ever written (--read-only works).
COPY --from=build --chown=65532:65532 /out/data /var/lib/anteroom
VOLUME ["/var/lib/anteroom"]
WORKDIR /var/lib/anteroom
# As a number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
# Mounted there; it must say `listen = "0.0.0.0:8080"`, for by default only the container itself is listened to.
# A variable and no option, so that the service, its health check and `anteroom check` all find it.
ENV ANTEROOM_CONFIG=/etc/anteroom/anteroom.toml
HEALTHCHECK CMD ["/anteroom", "healthcheck"]
ENTRYPOINT ["/anteroom"]
CMD ["serve"]
