"""A machine in user mode: what of the host's own services a guest comes to."""

import pytest

import lacks
from fixtures_net import TIMEOUT_S, listening, other_address
from fixtures_runtime import BundleFactory, Runtime, default_config, started
from fixtures_vm import need_machines

NETWORK = ("CAP_NET_BIND_SERVICE", "CAP_NET_RAW")

# frames that no kernel would send: a beginning of TCP to an address of the loopback, from the guest's own
FORGED = """
import socket, struct, sys
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
there, port, local_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
mac = open("/sys/class/net/eth0/address").read().strip().replace(":", "")
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
source = socket.inet_aton("10.0.2.15")
inner = ("127.0.0.1", "127.0.0.2", "10.0.2.2", "10.0.2.3", "10.0.3.2", "10.0.3.3", "0.0.0.0")
for to, port in (*((name, local_port) for name in inner), (there, port)):
    target = socket.inet_aton(to)
    tcp = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 5 << 4, 2, 4096, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + source + target
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    link.send(bytes.fromhex("52550a000202" + mac) + b"\\x08\\x00" + ip + tcp)
"""
REACHING = """
import socket, sys
there, port, local_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for to in ("127.0.0.1", "10.0.2.2", "10.0.2.3", "10.0.3.2"):
    try:
        socket.create_connection((to, local_port), timeout=2).close()
    except OSError:
        pass
with socket.create_connection((there, port), timeout=20) as reached:
    print(reached.recv(100).decode(), flush=True)
"""


def test_the_hosts_loopback_is_not_reached_and_its_other_addresses_are(
    boxwright: Runtime, bundle: BundleFactory
) -> None:
    """A guest on the host's network does not reach 127.0.0.1 of the host: neither by the names that the hypervisor's
    stack has for it, nor by frames of its own making; other addresses it does.
    """
    need_machines()
    lacks.need_program("slirp4netns", "python3")
    config = default_config()
    config["process"]["capabilities"] = {kind: list(NETWORK) for kind in ("bounding", "effective", "permitted")}
    config["root"] = {"path": "/", "readonly": True}
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
    address = other_address()
    with listening("127.0.0.1") as local, listening(address) as there:
        local_port, port = local.getsockname()[1], there.getsockname()[1]
        config["process"]["args"] = [
            *("sh", "-c", 'f=$1 r=$2; shift 2; python3 -c "$f" "$@" && python3 -c "$r" "$@"', "sh"),
            *(FORGED, REACHING, address, str(port), str(local_port)),
        ]
        with started(boxwright, "--isolation", "vm", "run", "--bundle", str(bundle(config)), "reaching") as process:
            forged, _ = there.accept()  # the last of the forged ones, which is allowed: they do arrive
            forged.close()
            reached, _ = there.accept()
            with reached:
                reached.send(b"the host is here")
            output, errors = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, output) == (0, "the host is here\n"), errors
        local.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody has come
            local.accept()
