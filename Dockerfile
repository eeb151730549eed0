# One small image for every service; the command chooses which: `/gateway`, `/event-store`, …
#
#   from-host    takes what scripts/stage-image put into target/image: for machines that cannot pull images
#   from-source  builds in a Rust image: needs nothing but Docker
#
# `make up` chooses; either holds release builds. from-host comes first because Docker's older builder pulls the base of every stage above its target.

FROM scratch AS from-host
COPY target/image/root/ /
# A new volume takes its owner from here.
COPY --chown=65532:65532 target/image/data/ /data/
USER 65532:65532
CMD ["/gateway"]

FROM rust:1.95-slim AS build
WORKDIR /build
COPY . .
RUN CARGO_BUILD_TARGET="$(rustc -vV | sed -n 's/^host: //p')" RUSTFLAGS="-C target-feature=+crt-static" \
    scripts/stage-image release

FROM scratch AS from-source
COPY --from=build /build/target/image/root/ /
COPY --from=build --chown=65532:65532 /build/target/image/data/ /data/
USER 65532:65532
CMD ["/gateway"]
