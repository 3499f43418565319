# Every RUN of the build stage reads this first: what makes its programs build for the processor that the image is for,
# which may be another than that of this machine.
case $TARGETARCH in
    amd64) machine=x86_64 COMPILER=g++-x86-64-linux-gnu ;;
    arm64) machine=aarch64 COMPILER=g++-aarch64-linux-gnu ;;
    *)
        echo "no image is made for $TARGETARCH" >&2
        exit 1
        ;;
esac
export COMPILER TARGET=$machine-linux-gnu CC=$machine-linux-gnu-gcc CXX=$machine-linux-gnu-g++
if [ "$machine" != "$(uname -m)" ]; then
    # What Python then says its platform is: by it pip chooses wheels, and setuptools and scikit-build-core name theirs.
    export _PYTHON_HOST_PLATFORM=linux-$machine
    export CMAKE_ARGS="-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$machine"
fi
