# Octet's server: one program, the shared libraries it loads, nothing else.
#
#   docker build -t octet .
#   docker run --rm --read-only --cap-drop ALL -v "$PWD/repository":/models:ro -p 8000-8002:8000-8002 octet
#
# The packages come from deploy/packages/, the lists ./dev reads. Checked by tests/image/check_image.sh.
FROM debian:trixie-slim AS build
COPY deploy/packages/build.list /packages/
RUN apt-get update \
 && sed 's/#.*//' /packages/build.list | DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/*
COPY . /src
WORKDIR /src
# The locale of ./dev, so that a compiler cache serves both.
ENV LANG=C.UTF-8
RUN cmake --preset release && cmake --build build/release --target octet && strip -o /octet build/release/cli/octet

FROM debian:trixie-slim
COPY deploy/packages/runtime.list /packages/
RUN apt-get update \
 && sed 's/#.*//' /packages/runtime.list | DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /packages \
 && mkdir /models
COPY --from=build /octet /usr/local/bin/octet
# A number, so that Kubernetes can see that it is not root. The server writes no file: a read-only root will do.
USER 10001:10001
# HTTP health pages, gRPC, metrics: Triton's numbers.
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["octet", "probe"]
ENTRYPOINT ["octet"]
CMD ["serve", "--model-repository", "/models"]
