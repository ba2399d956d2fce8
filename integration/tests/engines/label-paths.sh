#!/bin/bash
# What becomes of labels on their way through engines: label-paths.sh DIRECTORY prints one line for each way, tab-separated:
# engine, way, then for security.ima, user.imafs.ima and a manifest in the image: kept, lost or changed.
#
# The image is one file with both attributes, and a manifest beside it; every way begins with it and ends with what the
# engine then has on disk. Nothing of the machine's own engines is touched: each has its storage in DIRECTORY, which must
# be on a filesystem that keeps security.ima. Needs root, podman, buildah, skopeo and dockerd. What it prints stands in
# docs/images.md, and label_paths.rs holds one against the other.
set -eu

work=$1
mkdir -p "$work/tree" "$work/root" "$work/runroot" "$work/context"
ima=0x0404$(printf '%064d' 7)
user=0x0404$(printf '%064d' 8)
echo content > "$work/tree/file"
setfattr -n security.ima -v "$ima" "$work/tree/file"
setfattr -n user.imafs.ima -v "$user" "$work/tree/file"
head -c 3000 /dev/urandom > "$work/tree/.imafs-manifest"
tar --create --xattrs --xattrs-include='*' --numeric-owner --file "$work/image.tar" --directory "$work/tree" .
cp -a "$work/tree" "$work/context/"
cp "$work/image.tar" "$work/context/"

storage=(--root "$work/root" --runroot "$work/runroot" --storage-driver overlay)
podman() { command podman "${storage[@]}" --events-backend none --cgroup-manager cgroupfs "$@"; }
buildah() { command buildah "${storage[@]}" "$@"; }
store="containers-storage:[overlay@$work/root+$work/runroot]"

attribute() { # FILE NAME WANTED
    local found
    found=$(getfattr --absolute-names -e hex -n "$2" --only-values "$1" 2> /dev/null | od -An -v -tx1 | tr -d ' \n') || found=
    case 0x$found in
    0x) echo lost ;;
    "$3") echo kept ;;
    *) echo changed ;;
    esac
}

tell() { # ENGINE WAY ROOT
    local manifest=lost
    if [ -f "$3/.imafs-manifest" ]; then
        manifest=changed
        ! cmp -s "$3/.imafs-manifest" "$work/tree/.imafs-manifest" || manifest=kept
    fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$(attribute "$3/file" security.ima "$ima")" \
        "$(attribute "$3/file" user.imafs.ima "$user")" "$manifest"
}

failed() { printf '%s\t%s\tfailed: %s\n' "$1" "$2" "$(tail -n 1 "$work/log")"; }

image() { # ENGINE WAY IMAGE
    local root
    root=$(podman image mount "$3" 2> "$work/log") || { failed "$1" "$2"; return 0; }
    tell "$1" "$2" "$root"
    podman image umount --force "$3" > /dev/null 2>&1 || true
}

way() { # ENGINE WAY IMAGE COMMAND...
    local engine=$1 name=$2 result=$3
    shift 3
    if "$@" > /dev/null 2> "$work/log"; then image "$engine" "$name" "$result"; else failed "$engine" "$name"; fi
}

# Where layers are unpacked, without an engine.
unpack() { # WAY DIRECTORY COMMAND...
    local name=$1 root=$2
    shift 2
    if "$@" tar --extract --xattrs --xattrs-include='*' --file "$work/image.tar" --directory "$root" 2> "$work/log" ||
        grep -q 'Cannot set.*security.ima' "$work/log"; then
        tell tar "$name" "$root"
    else
        failed tar "$name"
    fi
}
mkdir "$work/tmpfs" "$work/mine"
chmod 755 "$work"
mount -t tmpfs tmpfs "$work/tmpfs"
unpack 'unpack on a tmpfs' "$work/tmpfs"
umount "$work/tmpfs"
chown 12345:12345 "$work/mine"
unpack 'unpack as root of a user namespace, as rootless engines do' "$work/mine" \
    setpriv --reuid 12345 --regid 12345 --clear-groups unshare --user --map-root-user

way podman 'import tar' localhost/start podman import "$work/image.tar" localhost/start

save_load() { # FORMAT
    podman save --format "$1" --output "$work/saved" localhost/start
    podman tag localhost/start "localhost/kept-$1" && podman rmi localhost/start
    podman load --input "$work/saved"
    podman tag localhost/start "localhost/loaded-$1"
    rm -rf "$work/saved"
}
way podman 'save and load, docker-archive' localhost/loaded-docker-archive save_load docker-archive
way podman 'save and load, oci-archive' localhost/loaded-oci-archive save_load oci-archive

through_oci() {
    skopeo copy "$store"localhost/start:latest "oci:$work/layout:start"
    skopeo copy "oci:$work/layout:start" "$store"localhost/copied:latest
}
way skopeo 'copy to oci: and back' localhost/copied through_oci

build() { # NAME CONTAINERFILE-LINE
    printf 'FROM scratch\n%s\n' "$2" > "$work/context/Containerfile"
    podman build --isolation chroot --tag "$1" "$work/context"
}
way podman 'build, COPY of a tree' localhost/built-copy build localhost/built-copy 'COPY tree/ /'
way podman 'build, ADD of a tar' localhost/built-add build localhost/built-add 'ADD image.tar /'

copy_in() {
    local container root
    container=$(buildah from localhost/start)
    root=$(buildah mount "$container")
    # A change of its own, so that the file is in the layer that is committed.
    cp "$work/tree/file" "$root/other" && mv "$root/other" "$root/file"
    setfattr -n security.ima -v "$ima" "$root/file"
    setfattr -n user.imafs.ima -v "$user" "$root/file"
    cp "$work/tree/.imafs-manifest" "$root/new" && mv "$root/new" "$root/.imafs-manifest"
    buildah umount "$container"
    buildah commit "$container" localhost/committed
}
way buildah 'change in a container and commit' localhost/committed copy_in
buildah_copy() {
    local container
    container=$(buildah from scratch)
    buildah copy "$container" "$work/tree" /
    buildah commit "$container" localhost/buildah-copied
}
way buildah 'copy of a tree and commit' localhost/buildah-copied buildah_copy

# What is left runs under a dockerd of our own.
dockerd --data-root "$work/docker" --exec-root "$work/docker-exec" --pidfile "$work/docker.pid" --host "unix://$work/docker.sock" \
    --iptables=false --bridge=none --storage-driver overlay2 > "$work/dockerd.log" 2>&1 &
daemon=$!
trap 'kill "$daemon" 2> /dev/null || true; wait "$daemon" 2> /dev/null || true' EXIT
docker() { command docker --host "unix://$work/docker.sock" "$@"; }
for _ in $(seq 150); do
    ! docker version > /dev/null 2>&1 || break
    sleep 0.2
done

layers() { # WAY IMAGE
    local container layers
    # The layers on disk, topmost first: the first that has a file is what a container would see.
    container=$(docker create "$2" /file 2> "$work/log") || { failed docker "$1"; return 0; }
    layers=$(docker inspect --format '{{.GraphDriver.Data.LowerDir}}' "$container")
    docker rm "$container" > /dev/null
    rm -rf "$work/seen" && mkdir "$work/seen"
    for name in file .imafs-manifest; do
        for layer in ${layers//:/ }; do
            [ -f "$layer/$name" ] || continue
            cp --preserve=all "$layer/$name" "$work/seen/"
            break
        done
    done
    tell docker "$1" "$work/seen"
}
docker import "$work/image.tar" start > /dev/null && layers 'import tar' start
docker save --output "$work/saved.tar" start && docker rmi start > /dev/null && docker load --input "$work/saved.tar" > /dev/null
layers 'save and load' start
docker_build() { # NAME LINE
    printf 'FROM scratch\n%s\n' "$2" > "$work/context/Dockerfile"
    DOCKER_BUILDKIT=0 docker build --tag "$1" "$work/context" > /dev/null 2> "$work/log"
}
if docker_build built-copy 'COPY tree/ /'; then layers 'build, COPY of a tree' built-copy; else failed docker 'build, COPY of a tree'; fi
if docker_build built-add 'ADD image.tar /'; then layers 'build, ADD of a tar' built-add; else failed docker 'build, ADD of a tar'; fi
container=$(docker create start /file)
docker cp --archive "$work/tree/file" "$container:/file" > /dev/null 2>&1
docker cp "$work/tree/.imafs-manifest" "$container:/.imafs-manifest" > /dev/null 2>&1
upper=$(docker inspect --format '{{.GraphDriver.Data.UpperDir}}' "$container")
tell docker 'cp into a container' "$upper"
setfattr -n security.ima -v "$ima" "$upper/file" && setfattr -n user.imafs.ima -v "$user" "$upper/file"
docker commit "$container" committed > /dev/null && layers 'change in a container and commit' committed
docker rm "$container" > /dev/null
