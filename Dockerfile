# nas-cntk in a container; written with care and not yet built by anybody.
#
#   docker build -t nas-cntk .
#   docker run --rm -v "$PWD:/data" nas-cntk search --data folder:photos --image-size 8
#
# With a GPU (docker run --gpus all ...), the toolkit's image and the extra that fits the driver:
#
#   docker build -t nas-cntk --build-arg BASE=nvidia/cuda:13.0.0-devel-ubuntu24.04 --build-arg EXTRAS=train,cuda13 .
#
# PyPI's torch brings CUDA libraries of its own, several gigabytes; EXTRAS= (none) leaves torch out: search, leaderboard
# and predict with kernel models need none.
ARG BASE=ubuntu:24.04

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/nas-cntk
WORKDIR /source
COPY . .
ARG EXTRAS=train
ENV PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_NO_CACHE_DIR=1
RUN /opt/nas-cntk/bin/pip install ".${EXTRAS:+[${EXTRAS}]}"

FROM ${BASE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/nas-cntk /opt/nas-cntk
ENV PATH=/opt/nas-cntk/bin:$PATH
# Runs and models are written here: mount a folder, or they go with the container.
WORKDIR /data
ENTRYPOINT ["nas-cntk"]
CMD ["--help"]
