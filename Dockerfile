# A server for one exported model: CPU, no PyTorch, no root.
#
#   docker build -t solobox .
#   docker run --rm -p 127.0.0.1:8000:8000 -e SOLOBOX_API_KEY -v "$PWD/model.onnx:/model/model.onnx:ro" solobox
#
# Packages come from the index that pip is configured for; each is checked against the hashes in requirements/lock.txt.

FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/solobox
COPY requirements/bootstrap.txt requirements/lock.txt requirements/
RUN python -m venv /opt/tools && /opt/tools/bin/pip install --quiet --require-hashes -r requirements/bootstrap.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
# The dependencies of the base install, at the locked versions, checked against their hashes.
RUN /opt/tools/bin/uv pip compile --quiet --python /opt/solobox/bin/python --no-header --no-annotate --no-emit-index-url \
        --constraint requirements/lock.txt pyproject.toml -o base.txt \
    && /opt/tools/bin/uv pip install --quiet --python /opt/solobox/bin/python --require-hashes \
        --constraint requirements/lock.txt -r base.txt \
    && /opt/tools/bin/uv pip install --quiet --python /opt/solobox/bin/python --no-deps \
        --build-constraint requirements/lock.txt . \
    && /opt/solobox/bin/python -c "import importlib.util as u; assert u.find_spec('torch') is None"

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin solobox
COPY --from=build /opt/solobox /opt/solobox
ENV PATH=/opt/solobox/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/health/ready', timeout=2)"]
# On an address that other machines reach, the server does not start without SOLOBOX_API_KEY.
ENTRYPOINT ["solobox", "serve"]
CMD ["/model/model.onnx", "--host", "0.0.0.0", "--port", "8000"]
