"""The guest: a Debian root file system with this machine's release, and its stock and its real-time kernel.

    python tests/system/image.py        build it if need be, print its folder

The folder holds `root.ext4`, `rootfs/` (the same as a tree, for chroot), and per kernel `<name>.vmlinuz` and
`<name>.initrd`. Nothing of emgd is in it: software.py makes a disk of its own for that. Debian comes from wherever apt
on this machine gets it. Needs root: a root file system has files of other users.
"""

import re
import shutil
import subprocess
from pathlib import Path

import cache

KERNELS = {"stock": "linux-image-amd64", "rt": "linux-image-rt-amd64"}

PACKAGES = [
    # what a cart's machine has: systemd, udev, and Python with what makes a virtual environment
    *("systemd", "systemd-sysv", "udev", "dbus", "kmod", "python3", "python3-venv", "libusb-1.0-0"),
    # what somebody wants who looks into the guest
    *("usbutils", "procps", "iproute2", "strace"),
]

LEFT_OUT = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*"]

BOOT_MODULES = ["virtio_pci", "virtio_blk", "ext4"]
"""What mounts the root; they are loaded from the initrd."""

MODULES = [
    *BOOT_MODULES,
    *("virtio_console", "virtio_rng", "autofs4", "configfs"),
    *("xhci_pci", "cdc_acm", "usbmon"),
    # the power button, and how logind hears of it
    *("button", "evdev"),
]
"""All that the guest finds in /lib/modules: 7 MB of a kernel's 300."""

NOT_STARTED = [
    # Nothing here may come back by itself and take the processor from a test.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-timesyncd.service", "systemd-networkd.service"),
    # Their modules are not here.
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"),
    "getty@tty1.service",
]

ROOT_SIZE = "700M"
"""Of a sparse file: 230 MB of it are used."""

FSTAB = """\
/dev/vda / ext4 rw 0 0
/dev/vdb /mnt/installed ext4 ro 0 0
/dev/vdc /mnt/checkout ext4 ro 0 0
/mnt/installed/emgd /opt/emgd none bind 0 0
"""
"""software.py says what is on the disks; /opt/emgd is where the installed programs think they are."""

AGENT_UNIT = """\
[Unit]
Description=does what the tests on the host ask for
# In a machine that goes down the agent is among the last: it is asked what became of the others.
After=systemd-logind.service
[Service]
ExecStart=/usr/bin/python3 -u /usr/local/lib/agent.py
[Install]
WantedBy=multi-user.target
"""

SHELL_ON_CONSOLE = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear %I $TERM
"""

INIT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read file; do /bin/busybox insmod /modules/$file; done < /order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do /bin/busybox sleep 0.05; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 /dev/vda /root || exec /bin/busybox sh
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""
"""Debian's own initrd would do as well, and take ten seconds longer to unpack and to search for disks."""

HERE = Path(__file__).parent


def folder():
    """The folder of the guest; built when the recipe or a package has changed."""
    candidates = output("apt-cache", "policy", *PACKAGES, *KERNELS.values())
    versions = re.findall(r"^(\S+):$|^  Candidate: (\S+)$", candidates, re.MULTILINE)
    if len(versions) != 2 * (len(PACKAGES) + len(KERNELS)):
        raise SystemExit("apt does not know all the packages of the guest; run: apt-get update")
    key = cache.key_of(Path(__file__), HERE / "guest" / "agent.py", versions)
    return cache.folder("guest", key, build)


def build(target):
    """Fill the folder."""
    print("building the guest (a minute and a half, once) ...", flush=True)
    rootfs = target / "rootfs"
    make_root(rootfs)
    for name, package in KERNELS.items():
        add_kernel(target, name, package)
    configure(rootfs)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", rootfs, target / "root.ext4", ROOT_SIZE],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def make_root(rootfs):
    """Debian, from where this machine's apt gets it and as it gets it there."""
    etc = Path("/etc/apt")
    found = [etc / "sources.list", *etc.glob("sources.list.d/*.list"), *etc.glob("sources.list.d/*.sources")]
    transport = rootfs.parent / "apt.conf"
    transport.write_text(output("apt-config", "dump", "Acquire"))
    release = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    if release is None:
        raise SystemExit("/etc/os-release names no release: the guest is made from Debian's packages, on Debian")
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"),
            *(f"--include={','.join(PACKAGES)}", f"--aptopt={transport}"),
            *(f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT),
            *(release[1], rootfs, *(path for path in found if path.is_file())),
        ],
        check=True,
    )
    transport.unlink()


def add_kernel(target, name, package):
    """Unpack a kernel beside the root file system: the few modules that are needed go in, and an initrd is made."""
    depends = output("apt-cache", "show", "--no-all-versions", package)
    image = re.search(r"^Depends: (linux-image-(\S+)) ", depends, re.MULTILINE)
    if image is None:
        raise SystemExit(f"{package} names no kernel that it stands for")
    version = image[2]
    work = target / f"{name}.work"
    work.mkdir()
    # apt would rather download as a user of its own, who has no right to write here, and says so.
    subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", image[1]], cwd=work, check=True)
    (deb,) = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, work / "tree"], check=True)
    tree = work / "tree"
    shutil.copy(tree / "boot" / f"vmlinuz-{version}", target / f"{name}.vmlinuz")

    modules = Path("lib", "modules", version)
    inside = target / "rootfs" / modules
    inside.mkdir(parents=True)
    for index in (tree / modules).glob("modules.*"):
        shutil.copy(index, inside)
    subprocess.run(["depmod", "-b", tree, version], check=True)
    for file in module_files(tree, version, MODULES):
        copy = inside / file.relative_to(tree / modules)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    subprocess.run(["depmod", "-b", target / "rootfs", version], check=True)
    make_initrd(target / f"{name}.initrd", work / "initrd", module_files(tree, version, BOOT_MODULES))
    shutil.rmtree(work)


def module_files(tree, version, names):
    """The files of these modules and of all that they need, in the order in which they load."""
    files = {}
    for name in names:
        shown = output("modprobe", "-d", tree, "-S", version, "--show-depends", name)
        # The other lines say "builtin".
        files |= dict.fromkeys(re.findall(r"^insmod (\S+)", shown, re.MULTILINE))
    return [Path(file) for file in files]


def make_initrd(target, work, modules):
    """Just enough to mount the root file system, without compression: it is small."""
    for name in ("bin", "dev", "modules", "root"):
        (work / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", work / "bin")
    for file in modules:
        shutil.copy(file, work / "modules")
    (work / "order").write_text("".join(f"{file.name}\n" for file in modules))
    (work / "init").write_text(INIT)
    (work / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(work)) for path in sorted(work.rglob("*")))
    with target.open("wb") as file:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=work, input=names.encode(), stdout=file, check=True)


def configure(rootfs):
    """What makes the tree a test's machine: its disks, its agent, its console, and nothing that runs by itself."""
    write(rootfs / "etc/fstab", FSTAB)
    write(rootfs / "etc/hostname", "cart\n")
    for path in ("mnt/installed", "mnt/checkout", "opt/emgd"):
        (rootfs / path).mkdir(parents=True)
    units = rootfs / "etc/systemd/system"
    for unit in NOT_STARTED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    write(units / "agent.service", AGENT_UNIT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
    write(units / "serial-getty@ttyS0.service.d/shell.conf", SHELL_ON_CONSOLE)
    write(rootfs / "usr/local/lib/agent.py", (HERE / "guest" / "agent.py").read_text())


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def output(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print(folder())
