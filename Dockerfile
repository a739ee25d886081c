# The page in a container (docs/deployment.md):
#   docker build -t ichseg .      docker run --rm -p 127.0.0.1:7860:7860 ichseg
# For an NVIDIA GPU build with --build-arg TORCH_INDEX=https://pypi.org/simple, and run with --gpus all.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# A user without rights, with a home for compiled models.
RUN useradd --create-home --uid 1000 page

WORKDIR /srv/ichseg

# What changes seldom comes first. torch has an index of its own for the build without the libraries of a GPU.
# The client of an image archive is there, too, and off unless ICHSEG_DICOMWEB_URL says where one is.
COPY requirements.txt requirements-archive.txt ./
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep -o '^torch==[0-9.]*' requirements.txt)" \
    && pip install --no-cache-dir -r requirements.txt -r requirements-archive.txt

COPY app.py LICENSE NOTICE README.md ./
COPY weights ./weights
COPY ichseg ./ichseg

USER page

# Every interface of the container: which of the machine's own is for "docker run -p" to say.
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PYTHONUNBUFFERED=1

EXPOSE 7860

# 200 once the default methods are loaded; the first start compiles them.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/gradio_api/health', timeout=4)"]

CMD ["python", "app.py"]
