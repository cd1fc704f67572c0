# One image for all processes; the command chooses one: `server`, `scheduler`, `worker` or `migrate`.
#   docker build -t stroem .
# PYTHON_IMAGE can be any image with Python 3.11 or newer, its venv module and apt.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS packages
COPY requirements.txt /build/requirements.txt
RUN python3 -m venv /opt/stroem/venv \
 && /opt/stroem/venv/bin/python -m pip install --no-cache-dir --no-input --require-hashes -r /build/requirements.txt

FROM ${PYTHON_IMAGE}
# Programs that steps on this host may call, and tini, which adopts and reaps the processes they leave behind.
RUN apt-get update \
 && apt-get install -y --no-install-recommends bash ca-certificates curl git gzip jq openssh-client procps tar tini unzip \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home --home-dir /var/lib/stroem --shell /usr/sbin/nologin stroem \
 && install -d -m 0700 -o stroem -g stroem /var/lib/stroem-files
COPY --from=packages /opt/stroem/venv /opt/stroem/venv
COPY manage.py /opt/stroem/
COPY engine /opt/stroem/engine
COPY runners /opt/stroem/runners
COPY workers /opt/stroem/workers
COPY apps /opt/stroem/apps
COPY console /opt/stroem/console
COPY standalone /opt/stroem/standalone
COPY stroem_project /opt/stroem/stroem_project
RUN /opt/stroem/venv/bin/python -m compileall -q /opt/stroem/engine /opt/stroem/runners /opt/stroem/workers \
    /opt/stroem/apps /opt/stroem/console /opt/stroem/standalone /opt/stroem/stroem_project
ENV PATH=/opt/stroem/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    STROEM__DATA_DIR=/var/lib/stroem \
    STROEM__LISTEN=0.0.0.0:8080
WORKDIR /opt/stroem
USER 10001
VOLUME /var/lib/stroem
EXPOSE 8080
# As first process, it becomes tini: see stroem_project/handover.py.
ENTRYPOINT ["python", "manage.py"]
CMD ["server"]
