# Sourced by the checks that need programs or files of Debian's.

# need COMMAND PACKAGE...: install the packages through apt where the command is missing.
need() {
    local command=$1
    shift
    if command -v "$command" >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "SKIP: $command is missing, and only root on a Debian machine can install it ($*)"
        exit 0
    fi
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
    command -v "$command" >/dev/null || { echo "FAIL: $* installed and still no $command" >&2; exit 1; }
}

# fetch_trixie FOLDER PACKAGE...: download packages of Debian 13 ("trixie") through a private apt configuration and
# unpack them in the folder; nothing is installed. TRIXIE_ARCHITECTURE asks for another architecture than this one.

fetch_trixie() {
    local folder=$1 state sources
    shift
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "SKIP: no apt-get and dpkg-deb here, so $* of Debian trixie cannot be had"
        exit 0
    fi
    sources=/etc/apt/sources.list.d/debian.sources
    if [ ! -f "$sources" ]; then
        echo "SKIP: no $sources here, so no Debian mirror is known to take $* from"
        exit 0
    fi
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    state=$folder/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/etc"
    # The machine's own main mirror, with another release: the first stanza only, as the others are security archives.
    awk '/^#/ {next} /^$/ {exit} /^Suites:/ {print "Suites: trixie"; next} {print}' "$sources" >"$state/etc/trixie.sources"
    local options=(
        -o "Dir::Etc::SourceList=$state/etc/trixie.sources" -o "Dir::Etc::SourceParts=/dev/null"
        -o "Dir::State::Lists=$state/lists" -o "Dir::Cache=$state/cache" -o "Dir::State::status=$state/status"
        -o "APT::Get::List-Cleanup=0" -o "APT::Sandbox::User=root"
    )
    : >"$state/status"
    if [ -n "${TRIXIE_ARCHITECTURE:-}" ]; then
        options+=(-o "APT::Architecture=$TRIXIE_ARCHITECTURE" -o "APT::Architectures::=$TRIXIE_ARCHITECTURE")
    fi
    apt-get "${options[@]}" -qq update
    (cd "$state" && apt-get "${options[@]}" -qq download "$@")
    local package
    for package in "$state"/*.deb; do
        dpkg-deb -x "$package" "$folder/root"
        rm "$package"
    done
}
