# Sourced after .ci/debian.sh by the checks that build images: Docker's programs, a daemon of our own, Debian's base image.

# start_docker FOLDER: install what is missing and start a daemon whose state is in FOLDER; DOCKER_HOST and
# DOCKER_CONFIG lead to it. It pulls what slim_base makes. Ends the script with SKIP where no daemon can run.
start_docker() {
    local folder=$1
    if [ "$(id -u)" != 0 ]; then
        echo "SKIP: only root can start a container daemon"
        exit 0
    fi
    need dockerd docker.io
    need iptables iptables
    need mmdebstrap mmdebstrap
    # Compose v2 and buildx are packaged from Debian 13 on; the programs themselves run on Debian 12.
    export DOCKER_CONFIG=$folder/config
    if ! docker compose version >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
        fetch_trixie "$folder/trixie" docker-compose docker-buildx
        mkdir -p "$DOCKER_CONFIG/cli-plugins"
        find "$folder/trixie/root" -path '*/cli-plugins/docker-*' -type f -exec cp {} "$DOCKER_CONFIG/cli-plugins/" \;
    fi
    export DOCKER_HOST=unix://$folder/docker.sock
    mkdir "$folder/registry"
    python3 .ci/registry.py serve "$folder/registry" >"$folder/registry.url" 2>"$folder/registry.log" &
    registry=$!
    until [ -s "$folder/registry.url" ]; do
        kill -0 "$registry" || { cat "$folder/registry.log"; exit 1; }
        sleep 0.1
    done
    setsid dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
        --registry-mirror "$(cat "$folder/registry.url")" --oom-score-adjust 0 >"$folder/dockerd.log" 2>&1 &
    daemon=$!
    local _
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && break
        if ! kill -0 "$daemon" 2>/dev/null; then
            tail -5 "$folder/dockerd.log"
            daemon=
            echo "SKIP: no container daemon can run here"
            exit 0
        fi
        sleep 0.5
    done
    docker info >/dev/null
}

# stop_docker FOLDER: end the daemon, and unmount what it left.
stop_docker() {
    [ -z "${registry:-}" ] || kill "$registry" 2>/dev/null || true
    if [ -n "${daemon:-}" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        grep -o "$1/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
    fi
}

# slim_base FOLDER ARCHITECTURE: debian:bookworm-slim from Debian's packages, no registry needed.
slim_base() {
    local folder=$1 architecture=$2 options=() each
    echo "making the base image for $architecture from Debian's packages, with what its slim image leaves out left out"
    for each in doc info lintian locale man groff help examples; do
        options+=("--dpkgopt=path-exclude=/usr/share/$each/*")
    done
    # What runs the programs of another processor is the kernel's business, not to be looked for. As in Debian's image,
    # packages are not synced to the disk one by one, and /bin is merged from the start rather than by Perl.
    mmdebstrap --quiet --variant=apt --mode=root --skip=check/qemu --architectures="$architecture" \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --dpkgopt=force-unsafe-io \
        "${options[@]}" --include=tzdata,passwd \
        --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/*' \
        bookworm "$folder/slim.tar" /etc/apt/sources.list.d/debian.sources
    python3 .ci/registry.py add "$folder/registry" "$architecture" "$folder/slim.tar"
}
