"""Debian's packages, from a build folder: packages_test.py BUILD VERSION.

They are what lintian has no error to say of; and in a new system that has nothing else they are installed, used, and
purged, after which nothing is left of them."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

BUILD, VERSION = sys.argv[1:3]
# The project has no address.
KNOWN = ["bogus-mail-host"]

# Runs in the new system.
USE = r"""
echo here is a new system
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# What has to do with Tally, but for what apt keeps.
ours() { find / -xdev \( -path /proc -o -path /packages -o -path /var/cache -o -path /var/log \) -prune -o -name '*tally*' -print; }
test -z "$(ours)"
apt-get install -qq --no-install-recommends /packages/*.deb
tally --version
tally run --report /report.json perl -e 'open F, "/proc/self/maps"; print grep m{/usr/lib.*libtally[.]so[.]1}, <F>' | grep -q .
tally-dump /report.json | grep TAG
LD_PRELOAD=libtally.so.1 grep -q libtally.so.1 /proc/self/maps
LD_PRELOAD=libtally-hardened.so.1 grep -q libtally-hardened.so.1 /proc/self/maps
ls /usr/share/man/man1/tally-run.1.gz /usr/share/man/man7/tally.7.gz /usr/share/doc/tally-tools/docs/OPTIONS.md /usr/share/doc/libtally1/changelog.gz /usr/include/tally/tally.h
apt-get purge -qq libtally1 libtally-dev tally-tools
rm /report.json
left=$(ours)
test -z "$left" || { echo "left behind: $left"; exit 1; }
echo used and purged
"""


def call(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{command}\nended with {done.returncode}\n{done.stdout}"
    return done.stdout


def main():
    missing = [program for program in ("cpack", "lintian", "mmdebstrap") if not shutil.which(program)]
    if missing:
        print("not here:", *missing)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as room:
        call("cpack", "-G", "DEB", "-B", room, cwd=BUILD)
        packages = glob.glob(f"{room}/*.deb")
        names = sorted(os.path.basename(package).split("_")[0] for package in packages)
        assert names == ["libtally-dev", f"libtally{VERSION.partition('.')[0]}", "tally-tools"], names
        for package in packages:
            with open(f"{package}.sha256") as file:
                assert call("sha256sum", package).split()[0] == file.read().split()[0], package
        said = subprocess.run(["lintian", "--fail-on", "none", *packages], stdout=subprocess.PIPE, text=True).stdout
        errors = [line for line in said.splitlines()
                  if line.startswith("E:") and not any(f" {known} " in line for known in KNOWN)]
        assert not errors, "\n".join(errors)
        for package in packages:
            call("dpkg-deb", "-x", package, f"{room}/inside")
        call("sh", "-c", f"find {room}/inside -name '*.gz' | xargs gunzip")
        told = subprocess.run(["grep", "-rl", "-F", BUILD, f"{room}/inside"], stdout=subprocess.PIPE, text=True).stdout
        assert not told, f"the folder of the build is told in\n{told}"
        os.mkdir(f"{room}/packages")
        for package in packages:
            os.rename(package, f"{room}/packages/{os.path.basename(package)}")
        with open(f"{room}/use", "w") as file:
            file.write(USE)
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=apt", f"--customize-hook=copy-in {room}/packages {room}/use /",
             '--customize-hook=chroot "$1" sh /use >&2', "--format=null", "bookworm", "/dev/null"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if "here is a new system\n" not in done.stdout:
            print("no new system can be made here:", done.stdout)
            sys.exit(77)
        assert done.returncode == 0 and "\nused and purged\n" in done.stdout, done.stdout


main()
