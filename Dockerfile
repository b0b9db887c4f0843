# The agent's image: BPF objects by clang, then the wheel, then a last stage without a compiler.
# `make image` builds it without a Docker engine; `docker build .` works as well.

FROM debian:bookworm-slim AS bpf
RUN apt-get update -q && apt-get install -q -y --no-install-recommends clang llvm libbpf-dev make
COPY bpf /src/bpf
RUN make -C /src/bpf OUT=/objects

FROM debian:bookworm-slim AS wheel
RUN apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/otel-oom
COPY pyproject.toml README.md LICENSE /src/
COPY bpf/LICENSE /src/bpf/LICENSE
COPY otel_oom /src/otel_oom
COPY --from=bpf /objects /src/otel_oom/bpf/objects
RUN /build/bin/pip wheel --no-deps --wheel-dir /wheel /src
RUN /build/bin/pip --python /opt/otel-oom/bin/python install --no-compile /wheel/*.whl

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="otel-oom" \
      org.opencontainers.image.description="Tells why the kernel killed a process, as OpenTelemetry data" \
      org.opencontainers.image.licenses="Apache-2.0" \
      io.otel-oom.capabilities.required="CAP_BPF CAP_PERFMON" \
      io.otel-oom.capabilities.optional="CAP_SYS_RESOURCE"
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends python3 libbpf1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt
COPY --from=wheel /opt/otel-oom /opt/otel-oom
# Required: CAP_BPF and CAP_PERFMON load and attach the programs. Optional: before Linux 5.11,
# CAP_SYS_RESOURCE lets it lock the memory of its BPF maps.
# Any uid will do whose process has them (ambient, for a uid that is not 0), in the host's PID
# namespace, with the host's /sys and its cgroups mounted read-only. It writes only here:
WORKDIR /var/lib/otel-oom
ENV PATH=/opt/otel-oom/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["otel-oom"]
CMD ["run"]
