"""Hardening of an exported unit: lines that take rights from it, as the configuration allows.

What the unit runs is somebody's application, and nobody has looked into that. So a line is on only
where it cannot break what the configuration asks for. Each other line is a comment with its reason,
and an operator who knows the application takes the # away. The names and what they do are those of
systemd.exec(5); a systemd that is too old for one warns and goes on without it.

Filters of system calls need care. Where User= is set, systemd 232 to 254 turns NoNewPrivileges on
with any line that has one, ProtectKernelModules= among them; and before 230 SystemCallFilter= keeps
such a service from starting. So that one is on only where the configuration itself needs root.
"""

import os
import pwd
import re
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple

import programs
from errors import encoded
from model import OWN_ID, Configuration, Logger, Process, instance_specs, pid_file_of
from unit_syntax import SERVICE_PATH, quoted

#: What ProtectSystem=full makes read-only.
_SYSTEM_FOLDERS = ("/boot", "/efi", "/etc", "/usr")

#: What ProtectHome= is about, and how a text speaks of it.
_HOMES = ("/home", "/root", "/run/user")
_NAMES_HOME = re.compile(r"(?<![\w./-])(?:/home|/root|/run/user)(?![\w.-])|~|\bHOME\b")

#: Where pupgevent itself writes: locks and sockets (folders.py).
_OWN_FOLDERS = ("/run", "/tmp", "/var/tmp")

#: Programs that change the system: mounts, containers, the clock, the kernel.
_SYSTEM_TOOLS = frozenset("""
    adjtimex apptainer auditd buildah bwrap chronyd chroot containerd crun debootstrap dmesg dockerd
    firejail flatpak hwclock insmod kexec klogd lxc lxc-start lxd modprobe mount nerdctl nsenter
    ntpd ntpdate phc2sys podman ptp4l rmmod rsyslogd rtcwake runc singularity snap snapd sysctl
    syslog-ng systemd-nspawn umount unshare
""".split())

#: Programs that get rights by being setuid or setgid.
_SETUID_TOOLS = frozenset("""
    at chsh crontab doas fping mail mailx mtr newgrp passwd ping ping6 pkexec sendmail sg su sudo
    traceroute
""".split())

#: Capabilities that are about the machine: audit, kernel modules, clock, power, hardware.
_MACHINE_CAPABILITIES = (
    "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "MAC_ADMIN", "MAC_OVERRIDE", "SYS_BOOT",
    "SYS_MODULE", "SYS_PACCT", "SYS_RAWIO", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM")

#: Further ones that pupgevent does not need as root, where no application is run as root.
_ROOTS_CAPABILITIES = (
    "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "SETFCAP", "SYS_ADMIN")

#: Each with a filter of system calls.
_KERNEL = ("ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectKernelLogs=yes")

_CALLS = (
    "SystemCallFilter=~@module @obsolete @raw-io @reboot @swap", "SystemCallErrorNumber=EPERM")

_LEFT_OFF = """\
# Off, since each of these breaks some applications. Take the # away where it does not break yours.
# No rights by setuid programs: sudo, su, sendmail, ping.
#NoNewPrivileges=yes
# Its own /tmp. With User= its control socket is there, where no `pupgevent status` finds it then.
#PrivateTmp=yes
# No GPU, serial line, /dev/fuse, /dev/kvm, /dev/net/tun.
#PrivateDevices=yes
# No code that is made while it runs: node, Java, PHP, .NET and LuaJIT make some.
#MemoryDenyWriteExecute=yes
# No namespaces: containers and the sandboxes of browsers are made of them.
#RestrictNamespaces=yes
# No 32-bit programs, no setarch.
#SystemCallArchitectures=native
#LockPersonality=yes
# No real-time priority; no setuid files, and no setgid folders, are made.
#RestrictRealtime=yes
#RestrictSUIDSGID=yes
# No other sockets: packet, vsock, Bluetooth, AF_ALG.
#RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# No file that is made is open to everybody.
#UMask=0027
# Not with pupgevent: ProtectProc= and ProcSubset= (it looks up in /proc who has the port of an
# instance), PrivateUsers= and PrivateNetwork= (users and ports are those of the machine)."""

_UNTOUCHED = """\
# All off: `%s` of %s changes the system. Take the # away where it does not need that."""

_NO_USER = "# No User= here: `user` or `group` of %s needs root."
_USER = """\
# The user to run as; without it root. With it, before systemd 255, the lines ProtectKernel...= also
# take the rights of setuid programs (sudo, su, sendmail, ping): comment them out if one is needed.
#User=
#Group="""


class Tool(NamedTuple):
    """A program, and whose command it is in."""

    word: str
    process_id: str


def hardening(configuration: Configuration, own: "List[str]") -> "List[str]":
    """The lines; `own` are the files that pupgevent itself consists of."""
    tool = _first_tool(configuration, _SYSTEM_TOOLS)
    lines = [*_files(configuration, own), *_kernel(configuration),
             *_capabilities(configuration)]
    if tool is not None:
        lines = [_UNTOUCHED % tool, *map(_commented, lines)]
    return [
        *_user(configuration), "",
        "# Hardening. `systemd-analyze security` shows what comes of it.", *lines,
        *_strict(configuration), *_LEFT_OFF.splitlines(),
    ]


def _commented(line: str) -> str:
    return line if line.startswith("#") else "#" + line


# Who it runs as


def _user(configuration: Configuration) -> "Iterator[str]":
    needy = _that_need_root(configuration)
    if needy:
        yield _NO_USER % ", ".join(each.id for each in needy)
        return
    yield from _USER.splitlines()
    low = _low_ports(configuration)
    if low:
        yield "# For %s, also with a User= that is not root." % ", ".join(low)
        yield "AmbientCapabilities=CAP_NET_BIND_SERVICE"


def _that_need_root(configuration: Configuration) -> "List[Process]":
    return [each for each in configuration.processes if each.user or each.group]


def _low_ports(configuration: Configuration) -> "List[str]":
    """Those that only root, or who may, can listen on: "port 80 of web"."""
    found = []
    for process in configuration.processes:
        ports = [spec.port for spec in instance_specs(process)]
        if process.cluster is not None:
            ports.insert(0, process.cluster.common_port)
        found += ["port %d of %s" % (port, process.id) for port in ports if port and port < 1024]
    return found


# Files


def _files(configuration: Configuration, own: "List[str]") -> "Iterator[str]":
    inside = [each for each in _written(configuration) if _is_in(each, _SYSTEM_FOLDERS)]
    if inside:
        # ReadWritePaths= came later, with systemd 231.
        yield "# The files of the system stay writable, since the configuration has some there:"
        yield "#ProtectSystem=full"
        yield _commented(_writable(inside))
    else:
        yield "# The files of the system are read-only."
        yield "ProtectSystem=full"
    reason = _why_home(configuration, own)
    if reason:
        yield "# Home folders stay as they are: %s." % reason
        yield "#ProtectHome=read-only"
    elif None in [each.user for each in configuration.processes]:
        yield "# Home folders are only read; one may be that of User=."
        yield "ProtectHome=read-only"
    else:
        yield "# Home folders are empty: nothing of the configuration is there."
        yield "ProtectHome=yes"


def _strict(configuration: Configuration) -> "Iterator[str]":
    yield "# Stricter: all is read-only. Add each other folder that the applications write to."
    yield "#ProtectSystem=strict"
    yield _commented(_writable([*_OWN_FOLDERS, *_written(configuration)]))


def _writable(folders: "Iterable[str]") -> str:
    # With the hyphen a folder that is not there is no mistake.
    words = [quoted("-" + each, variables=False) for each in dict.fromkeys(folders)]
    return "ReadWritePaths=" + " ".join(words)


def _written(configuration: Configuration) -> "List[str]":
    """The folders that the configuration has files written to, each once."""
    files: List[Optional[str]] = [configuration.control.socket]
    folders: List[str] = []
    for process in configuration.processes:
        folders += [process.cwd, process.real_cwd]
        files += [pid_file_of(process, 0), *_log_files(process.logger, process.id)]
        if process.cluster is not None:
            files += _outside_of_dev(process.cluster.access_log)
    files += _log_files(configuration.logger, OWN_ID)
    folders += [os.path.dirname(each) for each in files if each]
    return list(dict.fromkeys(folders))


def _log_files(logger: Logger, process_id: str) -> "Iterator[str]":
    """As far as they are the same for all instances, however many there will be."""
    for template in (logger.stdout, logger.stderr):
        path = (template or "").partition("{instance}")[0].replace("{id}", process_id)
        yield from _outside_of_dev(path)


def _outside_of_dev(path: "Optional[str]") -> "List[str]":
    """The path, if there is one: no line makes /dev read-only."""
    return [path] if path and not _is_in(path, ["/dev"]) else []


def _is_in(path: str, folders: "Iterable[str]") -> bool:
    places = (path, os.path.realpath(path))
    return any((each + "/").startswith(folder + "/") for each in places for folder in folders)


def _why_home(configuration: Configuration, own: "List[str]") -> str:
    """Which of the things that are needed is in a home folder; empty: none."""
    for what, path in _needed(configuration, own):
        if _is_in(path, _HOMES):
            real = os.path.realpath(path)
            return "%s is %s" % (what, quoted(real, variables=False))
    for process in configuration.processes:
        texts = [_text(process), process.path or "", *process.env.values(),
                 *(process.env_file or {}).values()]
        if any(map(_NAMES_HOME.search, texts)):
            return "cmd, path or env of %s names one" % process.id
    return ""


def _needed(configuration: Configuration, own: "List[str]") -> "Iterator[Tuple[str, str]]":
    """What is needed, and where it is."""
    yield "the configuration", configuration.absolute_path
    for file in own:
        yield "pupgevent or its Python", file
    for folder in _written(configuration):
        yield "a folder of the configuration", folder
    for process in configuration.processes:
        if process.user:
            yield "the home of %s" % process.user, pwd.getpwnam(process.user).pw_dir
        for file in _programs(process):
            yield "a program of %s" % process.id, file
        for file in _files_of_tls(process):
            yield "a file of tls of %s" % process.id, file


def _files_of_tls(process: Process) -> "Iterator[str]":
    tls = process.cluster.tls if process.cluster else None
    if tls is not None:
        for pair in tls.pairs:
            yield from (pair.cert, pair.key)
        if tls.client_ca is not None:
            yield tls.client_ca.path


def _programs(process: Process) -> "Iterator[str]":
    """The files that a command names, and the interpreters in their #! lines."""
    path, folder = encoded(SERVICE_PATH), os.fsencode(process.cwd)
    for word in _text(process).split():
        file = programs.find_program(encoded(word), path, folder)
        if file is not None:
            yield os.fsdecode(file)
            yield os.fsdecode(programs.interpreter_of(file) or file)
        elif "/" in word:
            yield os.path.join(process.cwd, word)


# Kernel and capabilities


def _kernel(configuration: Configuration) -> "Iterator[str]":
    is_root = bool(_that_need_root(configuration))
    tool = None if is_root else _first_tool(configuration, _SETUID_TOOLS)
    yield "# The control groups cannot be changed, nor the kernel's settings, modules and log."
    yield "ProtectControlGroups=yes"
    if tool is not None:
        yield "# Off: with User= they take the rights of `%s` of %s." % tool
    yield from map(_commented, _KERNEL) if tool is not None else _KERNEL
    yield "# Nor are there system calls for the machine as a whole, and some that nobody uses."
    if not is_root:
        yield "# Off: with User= no systemd before 230 starts the service then."
    yield from _CALLS if is_root else map(_commented, _CALLS)


def _capabilities(configuration: Configuration) -> "Iterator[str]":
    names: Tuple[str, ...] = _MACHINE_CAPABILITIES
    if _nobody_is_root(configuration):
        yield "# What pupgevent does not need as root; no application is run as root."
        names += _ROOTS_CAPABILITIES
    else:
        yield "# Rights of root that concern the machine: modules, clock, power, hardware, audit."
    yield "CapabilityBoundingSet=~" + " ".join("CAP_" + each for each in sorted(names))


def _nobody_is_root(configuration: Configuration) -> bool:
    """Each application has another user, and nothing in its command becomes root."""
    users = [each.user for each in configuration.processes]
    if any(user is None or pwd.getpwnam(user).pw_uid == 0 for user in users):
        return False
    return _first_tool(configuration, _SETUID_TOOLS) is None


# What the commands say


def _first_tool(configuration: Configuration, tools: "Iterable[str]") -> "Optional[Tool]":
    """The first of these programs that a command names, and whose command it is."""
    for process in configuration.processes:
        for word in re.findall(r"[\w.+-]+", _text(process)):
            if word in tools:
                return Tool(word, process.id)
    return None


def _text(process: Process) -> str:
    """All that it runs."""
    commands = [process.cmd, process.on_failure or ""]
    return "\n".join(each if isinstance(each, str) else " ".join(each) for each in commands)
