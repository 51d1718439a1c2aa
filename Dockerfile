# syntax=docker/dockerfile:1

FROM python:3.13-slim-trixie AS build
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements-build.lock requirements.lock ./
RUN /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps --requirement requirements-build.lock \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps --no-build-isolation --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY exchanges exchanges
COPY service service
# ccxt takes many seconds to import without bytecode, and the root file system is read-only when it runs.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /opt/venv/bin/pip uninstall --yes --quiet hatchling setuptools wheel editables pip \
 && python -m compileall -q -j 0 /opt/venv/lib

FROM python:3.13-slim-trixie
RUN groupadd --gid 10001 orderbook \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin orderbook \
 && install -d -o orderbook -g orderbook -m 0700 /data \
 && install -d /etc/internal-orderbook
COPY --from=build /opt/venv /opt/venv
COPY settings.toml /etc/internal-orderbook/settings.toml
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    IOB_SERVICE__HOST=0.0.0.0 \
    IOB_LEDGER__URL=sqlite:////data/ledger.db
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Run it with a read-only root file system: docker run --read-only --tmpfs /tmp …
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('IOB_SERVICE__PORT', '8080') + '/healthz', timeout=2)"]
ENTRYPOINT ["internal-orderbook"]
CMD ["serve", "--settings", "/etc/internal-orderbook/settings.toml"]
