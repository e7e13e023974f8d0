"""Packages of any Debian release and architecture, by an apt root of our own:
apt's signature checks hold, and this machine's configuration stays as it is. The
mirror and the keys are those that apt has been given here.

What is pinned in `versions.toml` is fetched once and kept."""

import re
from pathlib import Path

from .common import Fault, cache, output, run, say, sha256, versions

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def mirror():
    """The mirror of Debian's archive that apt uses here, and its `Signed-By`."""
    listed = output("apt-get", "indextargets", "--format", "$(SITE)\t$(SOURCESENTRY)",
                    "Created-By: Packages", "Component: main").splitlines()
    for line in listed:
        site, _, entry = line.partition("\t")
        if site.rstrip("/").endswith("/debian"):
            return site, signed_by(entry) or KEYRING
    raise Fault("apt knows no mirror of Debian's archive (a source whose URI ends in /debian); "
                "run `apt-get update`, or use a machine with Debian or with rustup's targets")


def signed_by(entry):
    """The key of one source: of the one-line form, or of a stanza (`FILE:NUMBER`)."""
    file, _, number = entry.rpartition(":")
    try:
        text = Path(file).read_text()
    except OSError:
        return None
    if file.endswith(".sources"):
        stanzas = [s for s in re.split(r"\n\s*\n", text) if re.search(r"^URIs:", s, re.M)]
        text = stanzas[int(number) - 1] if int(number) <= len(stanzas) else ""
        found = re.search(r"^Signed-By:[ \t]*(/\S+)", text, re.M | re.I)
    else:
        lines = text.splitlines()
        text = lines[int(number) - 1] if int(number) <= len(lines) else ""
        found = re.search(r"signed-by=(/[^\s\]]+)", text, re.I)
    return found and found.group(1)


class Archive:
    """One release of Debian for one architecture."""

    def __init__(self, suite, arch):
        self.suite, self.arch = suite, arch
        self.root = cache() / "apt" / f"{suite}-{arch}"

    def options(self):
        root = self.root
        for folder in ("state/lists/partial", "cache/archives/partial", "etc"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "state/status").touch()
        site, key = mirror()
        (root / "etc/sources.list").write_text(
            f"deb [signed-by={key} arch={self.arch}] {site} {self.suite} "
            "main non-free-firmware\n")
        settings = {
            "APT::Architecture": self.arch, "APT::Architectures": self.arch,
            "Dir::State": root / "state", "Dir::State::status": root / "state/status",
            "Dir::Cache": root / "cache", "Dir::Etc::sourcelist": root / "etc/sources.list",
            "Dir::Etc::sourceparts": "-", "APT::Sandbox::User": "root",
            "Acquire::Languages": "none", "Acquire::Retries": "3",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self):
        run("apt-get", *self.options(), "-qq", "update")

    def download(self, package, version, folder):
        """Fetches one package. Raises Fault when the archive has it no more."""
        run("apt-get", *self.options(), "-qq", "download", f"{package}={version}", cwd=folder,
            capture_output=True, text=True)


def pinned(package, arch):
    """The file of a pinned package, from the cache or the archive."""
    pin = versions()["deb"][package]
    wanted = pin["sha256"].get(arch) or pin["sha256"]["all"]
    folder = cache() / "debs"
    folder.mkdir(exist_ok=True)
    name = f"{package}_{pin['version'].replace(':', '%3a')}_" + \
        (arch if arch in pin["sha256"] else "all") + ".deb"
    file = folder / name
    if not file.exists():
        say(f"fetching {package} {pin['version']} ({arch}) from Debian {pin['suite']}")
        archive = Archive(pin["suite"], arch)
        archive.update()
        try:
            archive.download(package, pin["version"], folder)
        except Fault as fault:
            raise Fault(
                f"{fault}. If Debian {pin['suite']} has {package} {pin['version']} no more: put "
                f"the file {name} with SHA-256 {wanted}, for example from snapshot.debian.org, "
                f"into {folder}; or use a machine with rustup's targets") from None
    if sha256(file) != wanted:
        file.unlink()
        raise Fault(f"{name} is not the file that image/versions.toml pins (SHA-256 {wanted}); "
                    f"it was removed")
    return file


def unpack(deb, folder):
    run("dpkg-deb", "-x", deb, folder)
