# The site as an image: docs/serving.md. `docker compose up` starts it with a database.

FROM python:3.13-slim AS packages
RUN python -m venv /opt/keyhub
COPY requirements-production.lock .
RUN /opt/keyhub/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
    -r requirements-production.lock

FROM python:3.13-slim
ENV PATH=/opt/keyhub/bin:$PATH PYTHONUNBUFFERED=1 DEBUG=off
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin keyhub
WORKDIR /srv/keyhub
COPY --from=packages /opt/keyhub /opt/keyhub
COPY gunicorn.conf.py manage.py ./
COPY keyhub keyhub
COPY accounts accounts
COPY tenancy tenancy
COPY auth_sessions auth_sessions
COPY audit audit
COPY orgs orgs
# Settings want what only a running site has: these values are of this one command, and reach nothing.
RUN python -m compileall -q . \
    && DATABASE_URL=postgres://nobody@nowhere/none ALLOWED_HOSTS=nowhere SECRET_KEY=of-collectstatic-alone \
       python manage.py collectstatic --no-input --verbosity 0
# Root owns the files, so that the site cannot change itself; it needs nothing to write to but /dev/shm and /tmp.
USER keyhub
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["gunicorn", "--bind", "0.0.0.0:8000"]
