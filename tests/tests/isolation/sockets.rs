//! Sockets, and what the network keeps of them.

use crate::case::Case;
use crate::case::Way::{Refork, Rewind};
use crate::case::case;

const COUNT: &str = "seen.append([it[:2] for it in descriptors()])";

/// True where something answers at the address that the change gave.
const CONNECTS: &str = "
probe = socket.socket()
seen.append(hint is not None and probe.connect_ex(('127.0.0.1', hint)) == 0)
probe.close()";

/// Sockets of this user's in the kernel's list, but for those that only wait.
const LISTED: &str = "
for kind in ('tcp', 'tcp6', 'udp', 'udp6', 'raw'):
    try: lines = open(f'/proc/net/{kind}').read().splitlines()[1:]
    except OSError: continue
    seen += [[kind] + line.split()[3:4] for line in lines if int(line.split()[7]) == os.getuid()]
seen.sort()";

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("a listening port", Rewind, "
string.held = socket.socket()
string.held.bind(('127.0.0.1', 0))
string.held.listen()
hint = string.held.getsockname()[1]", CONNECTS),
    case("a port that several listen to", Rewind, "
string.held = [socket.socket() for _ in range(3)]
for one in string.held: one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
string.held[0].bind(('127.0.0.1', 0))
hint = string.held[0].getsockname()[1]
for one in string.held[1:]: one.bind(('127.0.0.1', hint))
for one in string.held: one.listen()", CONNECTS),
    case("a port in a child's hands", Rewind, "
held = socket.socket()
held.bind(('127.0.0.1', 0))
held.listen()
hint = held.getsockname()[1]
if os.fork() == 0: time.sleep(1000)
held.close()", CONNECTS),
    case("a datagram port", Rewind, "
string.held = socket.socket(type=socket.SOCK_DGRAM)
string.held.bind(('127.0.0.1', 0))
string.held.sendto(b'secret', string.held.getsockname())", LISTED),
    case("a port with a fixed number", Rewind, "
string.held = socket.socket()
string.held.bind(('127.0.0.1', 0))
hint = string.held.getsockname()[1]
string.held.listen()", "
probe = socket.socket()
seen.append('EADDRINUSE' if hint is not None and error_of(lambda: probe.bind(('127.0.0.1', hint))) else None)
probe.close()"),
    case("an abstract socket", Rewind, "string.held = socket.socket(socket.AF_UNIX); string.held.bind('\\0' + tag); string.held.listen()", "
probe = socket.socket(socket.AF_UNIX)
seen.append(probe.connect_ex('\\0' + tag) == 0)
probe.close()"),
    case("abstract sockets of every type", Rewind, "
string.held = [socket.socket(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)]
for number, one in enumerate(string.held): one.bind(f'\\0{tag}-{number}')", "seen += sorted(line.split()[-1] for line in open('/proc/net/unix') if tag in line)"),
    case("a connection", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
string.held = [server, socket.create_connection(server.getsockname())]", COUNT),
    case("a connection with data on its way", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
client = socket.create_connection(server.getsockname())
string.held = [server, client, server.accept()[0]]
client.setblocking(False)
try:
    while True: client.send(b'secret' * 10000)
except BlockingIOError: pass", LISTED),
    case("a connection that lingers", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
client = socket.create_connection(server.getsockname())
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 60))
string.held = [server, client, server.accept()[0]]
client.setblocking(False)
try:
    while True: client.send(b'secret' * 10000)
except BlockingIOError: pass
string.held[2].shutdown(socket.SHUT_WR)", LISTED),
    case("a connection that is half closed", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
client = socket.create_connection(server.getsockname())
string.held = [server, client, server.accept()[0]]
client.shutdown(socket.SHUT_WR)", LISTED),
    case("connections that nobody accepts", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen(50)
string.held = [server] + [socket.create_connection(server.getsockname()) for _ in range(30)]", LISTED),
    case("connections of a child's", Rewind, "
server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen()
client = socket.create_connection(server.getsockname())
peer = server.accept()[0]
if os.fork() == 0: time.sleep(1000)
for one in (server, client, peer): one.close()", LISTED),
    case("a pair with data in it", Rewind, "string.held = socket.socketpair(); string.held[0].send(b'secret' * 1000)", COUNT),
    case("sockets of the kernel's", Rewind, "string.held = [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0), socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)]; string.held[1].bind((0, 1))", COUNT),
    case("a group of receivers", Rewind, "
string.held = socket.socket(type=socket.SOCK_DGRAM)
string.held.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('224.1.2.3') + socket.inet_aton('127.0.0.1'))", "seen.append('030201E0' in open('/proc/net/igmp').read())"),
    case("an owner of a socket", Refork(&["descriptors"]), "string.held = socket.socketpair(); fcntl.fcntl(string.held[0], fcntl.F_SETOWN, os.getpid())", COUNT),
];
