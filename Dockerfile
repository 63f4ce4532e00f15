# The server, on a CPU with the built-in model unless told otherwise:
#
#   docker build -t llava-cot .
#   docker run -p 127.0.0.1:8000:8000 llava-cot
#   docker run -p 8000:8000 -e KEY=... -v ~/models:/models:ro llava-cot --model /models/my-vlm --api-key-env KEY
#
# --build-arg PIP_EXTRA_INDEX_URL=... names another package index, such as PyTorch's of CPU builds, whose torch is smaller.
FROM python:3.13-slim AS build
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
RUN python -m venv /opt/llava-cot
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN /opt/llava-cot/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim
COPY --from=build /opt/llava-cot /opt/llava-cot
RUN useradd --create-home --uid 1000 llava
USER llava
WORKDIR /home/llava
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["/opt/llava-cot/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["/opt/llava-cot/bin/llava-cot", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--model", "mini"]
