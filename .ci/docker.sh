# Sourced after .ci/debian.sh by the checks that build images: Docker's programs, a daemon of our own, Debian's base image.

# start_docker FOLDER: install what is missing and start a daemon whose state is in FOLDER; DOCKER_HOST and
# DOCKER_CONFIG lead to it. Ends the script with SKIP where no daemon can run.
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
    setsid dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" \
        --pidfile "$folder/pid" --oom-score-adjust 0 >"$folder/dockerd.log" 2>&1 &
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
    if [ -n "${daemon:-}" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
        grep -o "$1/[^ ]*" /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null || true
    fi
}

# slim_base FOLDER ARCHITECTURE: debian:bookworm-slim from Debian's packages, no registry needed.
slim_base() {
    local folder=$1 architecture=$2 excluded=() each
    echo "making the base image from Debian's packages, with what its slim image leaves out left out"
    for each in doc info lintian locale man groff help examples; do
        excluded+=("--dpkgopt=path-exclude=/usr/share/$each/*")
    done
    # What runs the programs of another processor is the kernel's business, not to be looked for.
    # Perl comes along for a conversion that is done by then; Debian's own image has only perl-base.
    mmdebstrap --quiet --variant=apt --mode=root --skip=check/qemu --architectures="$architecture" \
        "${excluded[@]}" --include=tzdata,passwd \
        --customize-hook='chroot "$1" apt-get purge --quiet --yes perl libperl5.36 perl-modules-5.36 >/dev/null' \
        --customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/log/*' \
        bookworm "$folder/slim.tar" /etc/apt/sources.list.d/debian.sources
    # Not `docker import`, which takes every image for one of its own processor.
    python3 - "$folder" "$architecture" <<'PYTHON'
import hashlib, json, os, sys
folder, architecture = sys.argv[1:]
with open(f"{folder}/slim.tar", "rb") as layer:
    digest = hashlib.file_digest(layer, "sha256").hexdigest()
config = {"os": "linux", "architecture": architecture, "config": {"Cmd": ["bash"]}}
config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
json.dump(config, open(f"{folder}/config.json", "w"))
manifest = [{"Config": "config.json", "RepoTags": ["debian:bookworm-slim"], "Layers": ["slim.tar"]}]
json.dump(manifest, open(f"{folder}/manifest.json", "w"))
PYTHON
    tar --create --directory "$folder" manifest.json config.json slim.tar | docker load --quiet >/dev/null
    rm "$folder/slim.tar"
}
