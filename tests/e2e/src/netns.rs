//! A home behind a real NAT: two network namespaces, veth pairs, and the kernel's own masquerading between them.
//!
//! ```text
//!  this machine 198.18.x.1 ── 198.18.x.2 [router: MASQUERADE, other ports] 192.168.77.1 ── 192.168.77.2 [home]
//! ```

use crate::edge::said;
use crate::janitor::{self, Undo};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The phone's address at home.
pub const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 77, 2));

/// A home network behind a NAT.
#[derive(Debug)]
pub struct Home {
    name: String,
    /// This machine's address on the public side.
    pub outside: IpAddr,
    /// What the phone's packets seem to come from.
    pub public: IpAddr,
    _undo: Undo,
}

impl Home {
    /// Builds one.
    ///
    /// # Panics
    /// This is not root, or the kernel has no network namespaces: the story cannot be told then, and says so.
    #[must_use]
    pub fn build() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "a real NAT needs root: run the e2e tests as root");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("sb{process}x{nth}");
        let third = u8::try_from(process % 256).expect("it is below 256");
        let fourth = u8::try_from(4 * (nth % 60)).expect("it is below 240");
        let host = |n: u8| Ipv4Addr::new(198, 18, third, fourth + n);
        let undo =
            janitor::at_end(&format!("ip netns del {name}h; ip netns del {name}r; ip link del {name}"));
        let script = format!(
            "set -e
             ip netns add {name}r; ip netns add {name}h
             ip link add {name} type veth peer name wan netns {name}r
             ip addr add {outside}/30 dev {name}; ip link set {name} up
             ip -n {name}r link add lan type veth peer name eth netns {name}h
             ip -n {name}r addr add {public}/30 dev wan; ip -n {name}r addr add 192.168.77.1/24 dev lan
             ip -n {name}r link set lo up; ip -n {name}r link set wan up; ip -n {name}r link set lan up
             ip -n {name}h addr add {PHONE}/24 dev eth
             ip -n {name}h link set lo up; ip -n {name}h link set eth up; ip -n {name}h route add default via 192.168.77.1
             ip netns exec {name}r sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
             ip netns exec {name}r iptables -t nat -A POSTROUTING -o wan -p udp -j MASQUERADE --to-ports 40000-49999",
            outside = host(1),
            public = host(2),
        );
        let built = said(Command::new("sh").args(["-c", &script]));
        assert_eq!(built.code, 0, "no network namespaces, veth or NAT here: {built:?}");
        Self { name, outside: host(1).into(), public: host(2).into(), _undo: undo }
    }

    /// A UDP socket at home; it stays there, whoever uses it.
    ///
    /// # Panics
    /// The port is in use there.
    #[must_use]
    pub fn socket(&self, port: u16) -> UdpSocket {
        let namespace = format!("/run/netns/{}h", self.name);
        // Only the thread that enters the namespace is there; the socket it opened remembers.
        let open = move || {
            let file = File::open(&namespace).expect("the namespace was made");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            UdpSocket::bind(SocketAddr::new(PHONE, port)).expect("the port is free there")
        };
        std::thread::spawn(open).join().expect("it opens")
    }
}
