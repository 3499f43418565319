#!/usr/bin/env bash
# The image for arm64, built from docker/Dockerfile and started under emulation; it has to transcribe the demo's recording
# as this machine does. Takes a quarter of an hour, and is therefore no part of .ci/run: `make image-arm64`. Ends with
# PASS, or with SKIP and why. Emulation says nothing about speed.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/debian.sh
. .ci/docker.sh

work=$(mktemp -d)
daemon=
binfmt=/proc/sys/fs/binfmt_misc
registered=
clean_up() {
    [ -z "$daemon" ] || docker rm --force deepthin-arm64 >/dev/null 2>&1 || true
    stop_docker "$work"
    [ -z "$registered" ] || echo -1 >"$binfmt/deepthin-aarch64"
    rm -rf "$work"
}
trap clean_up EXIT

start_docker "$work"
need arch-test arch-test
if [ "$(uname -m)" != aarch64 ]; then
    [ -e "$binfmt/register" ] || mount -t binfmt_misc binfmt_misc "$binfmt" 2>/dev/null ||
        { echo "SKIP: this kernel starts no programs of other processors (binfmt_misc)"; exit 0; }
    # qemu of Debian 12 crashes in ONNX Runtime: the emulator is Debian 13's. F: the kernel opens it now, so that it need
    # not be in the container.
    fetch_trixie "$work/qemu" qemu-user
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    echo ":deepthin-aarch64:M::$magic:$mask:$work/qemu/root/usr/bin/qemu-aarch64:F" >"$binfmt/register"
    registered=1
fi
for architecture in $(printf '%s\n' arm64 "$(dpkg --print-architecture)" | sort --unique); do
    slim_base "$work" "$architecture"
done

began=$SECONDS
docker buildx build --platform linux/arm64 --load --progress plain --tag deepthin:arm64 --file docker/Dockerfile \
    --secret "id=ca,src=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" .
echo "built in $((SECONDS - began)) s"
[ "$(docker image inspect --format '{{.Architecture}}' deepthin:arm64)" = arm64 ]

docker run --detach --name deepthin-arm64 --platform linux/arm64 --read-only --cap-drop ALL --tmpfs /tmp \
    --publish 127.0.0.1::8000 deepthin:arm64 >/dev/null
service=http://$(docker port deepthin-arm64 8000 | head -n 1)
began=$SECONDS
until curl --silent --fail --output /dev/null "$service/readyz"; do
    [ "$(docker inspect --format '{{.State.Running}}' deepthin-arm64)" = true ] ||
        { docker logs deepthin-arm64; echo "the service ended"; exit 1; }
    [ $((SECONDS - began)) -lt 600 ] || { docker logs deepthin-arm64; echo "the service is not ready"; exit 1; }
    sleep 1
done
docker exec deepthin-arm64 python -c 'import platform; assert platform.machine() == "aarch64"'
answer=$(curl --silent --fail --form file=@service/demo/clip.ogg "$service/transcribe")
text=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["text"])' "$answer")
echo "arm64: $text"
[ "$text" = "$("${PYTHON:-.venv/bin/python}" -m service.cli transcribe service/demo/clip.ogg)" ]
bytes=$(docker image inspect --format '{{.Size}}' deepthin:arm64)
echo "image: $bytes bytes"
[ "$bytes" -le 350000000 ] || { echo "the image is larger than 350 MB"; exit 1; }
echo PASS
