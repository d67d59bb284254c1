//! Whether a backend or trunk can be where its configuration says: not at the edge itself, not everywhere.

use super::check::Check;
use super::model::File;
use super::value::Address;
use signalbox_base::Cidr;

impl Check<'_> {
    /// A peer at the edge's own address would get back what it sends.
    pub(super) fn not_ourselves(&mut self, path: &str, file: &File, address: &Address) {
        let Some(place) = address.literal() else { return };
        let ours = file.listener.iter().find(|listener| {
            let told = listener.advertise.as_ref().and_then(|told| told.parse().ok());
            listener.address.transport == address.transport
                && (listener.address.literal() == Some(place) || told == Some(place))
        });
        if let Some(listener) = ours {
            let message = format!("is the edge itself, at its listener {}", listener.address);
            self.wrong(&format!("{path}.address"), message, "write the peer's own address");
        }
    }

    /// Addresses and prefixes from which a peer may call.
    pub(super) fn peer_sources(&mut self, path: &str, sources: &[String]) {
        for (k, source) in sources.iter().enumerate() {
            let at = format!("{path}.source[{k}]");
            match source.parse::<Cidr>() {
                Err(why) => {
                    let message = format!("\"{source}\" is {why}");
                    self.wrong(&at, message, "write an address or prefix, for example \"198.51.100.0/28\"");
                }
                Ok(prefix) if prefix.contains_everything() => {
                    let message =
                        format!("\"{source}\" is everybody: any phone or attacker could call as this peer");
                    self.wrong(&at, message, "write the addresses or prefixes that the peer calls from");
                }
                Ok(_) => {}
            }
        }
    }
}
