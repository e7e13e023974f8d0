"""A container image FROM scratch, made without a container engine.

One tar for all platforms, which is both an OCI layout (containerd, podman, skopeo,
Docker 25 and later) and what `docker load` of any Docker takes. Times, owners and
order are fixed: the same programs give the same bytes. Layers are not compressed,
since compressors differ from machine to machine and registries compress anyway."""

import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime

#: Nobody in particular; no file of ours names it.
USER = 65532
STATE = "var/lib/pg-witness"

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Tar:
    """A tar archive in memory whose bytes depend on what is put in alone."""

    def __init__(self, mtime):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.USTAR_FORMAT)
        self.mtime = mtime

    def add(self, name, data=None, mode=0o644, owner=0):
        """A file, or without `data` a folder."""
        member = tarfile.TarInfo(name)
        member.mtime, member.mode = self.mtime, mode
        member.uid = member.gid = owner
        if data is None:
            member.type = tarfile.DIRTYPE
            self.tar.addfile(member)
        else:
            member.size = len(data)
            self.tar.addfile(member, io.BytesIO(data))

    def bytes(self):
        self.tar.close()
        return self.buffer.getvalue()


class Blobs:
    """What an image refers to by digest."""

    def __init__(self):
        self.by_digest = {}

    def put(self, data, media_type):
        """Keeps `data`; returns the descriptor that refers to it."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.by_digest[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def put_json(self, value, media_type):
        return self.put(encoded(value), media_type)


def encoded(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def path_of(descriptor):
    return "blobs/" + descriptor["digest"].replace(":", "/")


def layer(program, licences, mtime):
    """The whole file system: the program, its licences, and an empty folder for
    the state, of which a new volume takes its owner."""
    tar = Tar(mtime)
    tar.add("pg-witness", program, 0o755)
    for folder in ("usr", "usr/share", "usr/share/licenses", "usr/share/licenses/pg-witness"):
        tar.add(folder, mode=0o755)
    for name, text in sorted(licences.items()):
        tar.add(f"usr/share/licenses/pg-witness/{name}", text)
    for folder in ("var", "var/lib"):
        tar.add(folder, mode=0o755)
    tar.add(STATE, mode=0o700, owner=USER)
    return tar.bytes()


def config(platform, diff_id, labels, created):
    return {
        **platform, "created": created,
        "config": {
            "Entrypoint": ["/pg-witness"], "Cmd": ["run"],
            "User": f"{USER}:{USER}",
            # Where the state is unless a configuration says otherwise.
            "WorkingDir": f"/{STATE}",
            # Started without variables it says which it wants, and ends.
            "Env": ["PG_WITNESS_DEMO=off"],
            "Volumes": {f"/{STATE}": {}},
            "StopSignal": "SIGTERM",
            # Docker's own field: OCI has none, and others pass it over.
            "Healthcheck": {
                "Test": ["CMD", "/pg-witness", "alive"],
                "Interval": 10_000_000_000, "Timeout": 5_000_000_000,
                "StartPeriod": 30_000_000_000, "Retries": 3,
            },
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": created, "created_by": "image/container"}],
    }


def archive(name, version, programs, licences, labels, epoch):
    """The tar's bytes. `programs`: OCI's `architecture[/variant]` to a program's
    bytes; `epoch`: seconds, the time of everything in it."""
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs, manifests, docker = Blobs(), [], []
    for platform_name, program in programs.items():
        architecture, _, variant = platform_name.partition("/")
        platform = {"architecture": architecture, "os": "linux",
                    **({"variant": variant} if variant else {})}
        filled = blobs.put(layer(program, licences, epoch), LAYER)
        described = blobs.put_json(config(platform, filled["digest"], labels, created), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described,
                    "layers": [filled]}
        manifests.append({**blobs.put_json(manifest, MANIFEST), "platform": platform})
        docker.append({"Config": path_of(described), "Layers": [path_of(filled)],
                       "RepoTags": [f"{name}:{version}-{platform_name.replace('/', '')}"]})
    image = blobs.put_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)
    image["annotations"] = {"org.opencontainers.image.ref.name": version,
                            "io.containerd.image.name": f"docker.io/library/{name}:{version}"}
    tar = Tar(epoch)
    tar.add("oci-layout", encoded({"imageLayoutVersion": "1.0.0"}))
    tar.add("index.json", encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]}))
    tar.add("manifest.json", encoded(docker))
    tar.add("blobs", mode=0o755)
    tar.add("blobs/sha256", mode=0o755)
    for digest in sorted(blobs.by_digest):
        tar.add("blobs/" + digest.replace(":", "/"), blobs.by_digest[digest])
    return tar.bytes()
