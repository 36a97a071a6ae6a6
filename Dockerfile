# Sidegate in an image of its own: the program, a bundle of certificate authorities, an empty directory for its state.
#
#   docker build --tag sidegate .
#
# One file for x86-64 and arm64: `--platform` chooses the base image, and the base image's compiler builds for itself. x86-64
# is what tests/images/run builds and runs; arm64 has not been built.
FROM rust:1.95-bookworm AS build

WORKDIR /src
COPY . .

# Linked statically with glibc. What a static glibc cannot do is load modules for the names of hosts and users, and neither
# is asked of it: Sidegate resolves names itself and reads no user database. The one look-up by the system that is linked in
# is a default of the AWS SDK, which src/discovery/source/api_gateway/credentials.rs replaces with our own.
#
# The same sources give the same bytes: the crates of Cargo.lock, one code generation unit, no path of this stage. Relative
# relocations are packed: 23,934 of them take 6 kB instead of 574.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN target=$(rustc --version --verbose | sed -n 's/^host: //p') \
    && export SOURCE_DATE_EPOCH=0 \
    && export RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs \
--remap-path-prefix=/src=sidegate --remap-path-prefix=${CARGO_HOME}=cargo" \
    && cargo build --release --locked --bin sidegate --target "$target" \
    && install -D --mode 755 "target/$target/release/sidegate" /image/sidegate \
    && install -D --mode 644 config/image/sidegate.toml /image/etc/sidegate/sidegate.toml \
    && install -D --mode 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && install --directory --mode 1777 /image/tmp \
    && install --directory --mode 755 /state/sidegate \
    && find /image /state -exec touch --no-dereference --date=@0 {} +

FROM scratch

LABEL org.opencontainers.image.title="Sidegate" \
      org.opencontainers.image.description="Public and private API Gateway APIs from one VPC, while private DNS stays on." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY --from=build /image /
# The last good lists of ids. A new volume takes its owner from here.
COPY --from=build --chown=65532:65532 /state /var/lib
VOLUME /var/lib/sidegate

# A number, so that Kubernetes' runAsNonRoot can see that it is not root. Nothing has to be writable but the volume.
USER 65532:65532

# DNS, and the proxy for HTTPS_PROXY. The admin listener, 9180, is for `sidegate health` inside.
EXPOSE 53/udp 53/tcp 3128/tcp

HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["/sidegate", "health"]

ENTRYPOINT ["/sidegate"]
CMD ["run"]
